"""Whether signed INT8 products are exact here is found out by computing some."""

from __future__ import annotations

import numpy as np
import pytest

from stt.convert import products
from stt.convert.products import cpu_saturates, largest_products

EXACT = 64 * 255 * 127


def test_unsigned_products_are_exact_on_every_processor() -> None:
    assert largest_products(255, zero=128).shape == (5, 32)
    assert (largest_products(255, zero=128) == EXACT).all()
    assert (largest_products(1, zero=128) == -EXACT).all()


def test_small_products_are_exact_whatever_the_signs() -> None:
    assert (largest_products(63) == 64 * 255 * 63).all()


def test_it_is_found_by_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_saturates.cache_clear()
    assert cpu_saturates() == bool((largest_products() != EXACT).any())
    for clipped in (False, True):
        found = np.full((5, 32), EXACT)
        found[4, 31] -= clipped  # one sum is enough
        monkeypatch.setattr(products, "largest_products", lambda given=found: given)
        cpu_saturates.cache_clear()
        assert cpu_saturates() == clipped
    cpu_saturates.cache_clear()
