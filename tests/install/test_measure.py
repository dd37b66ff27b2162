"""Precisions measured in turns: what is said of each, and that noise alone does not choose."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.convert import fp16
from stt.engine.folder import PRECISIONS
from stt.engine.manifest import Measurement, Proof
from stt.engine.precision import Known, choose
from stt.errors import ModelError
from stt.install import measure
from stt.install.measure import bounds, compare
from stt.models import FAMILIES
from support.paths import DIGITS

CHILD = "from stt.install.measure import peak_mib; print(peak_mib())"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process its peak")
def test_the_peak_is_the_processs_own_not_that_of_the_one_that_started_it() -> None:
    big = f"""
import subprocess, sys
filled = bytearray(b'x') * (600 << 20)
print(subprocess.run([sys.executable, '-c', {CHILD!r}], capture_output=True, text=True).stdout)
"""
    done = subprocess.run([sys.executable, "-c", big], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < 400


# --- the interval -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "left_out"), [(1, 0), (3, 0), (7, 0), (8, 0), (9, 1), (12, 2), (15, 3), (21, 5)]
)
def test_the_interval_leaves_out_as_many_at_either_end_as_95_percent_allow(
    count: int, left_out: int
) -> None:
    values = [float(n) for n in range(count)]
    random.Random(count).shuffle(values)
    assert bounds(values) == (left_out, count - 1 - left_out)


@given(st.lists(st.floats(0.01, 1e4), min_size=7, max_size=40))
def test_the_median_lies_in_its_interval(values: list[float]) -> None:
    low, high = bounds(values)
    assert low <= sorted(values)[len(values) // 2] <= high


# --- simulated set-ups --------------------------------------------------------------------------


def set_up(
    chance: random.Random, spread: float, busy: float, *, small: bool = False, **true: float
) -> Known:
    """What a set-up would have written, of precisions that are truly so fast.

    `spread`: of the logarithm of each turn's speed; `busy`: share of turns that something else
    slows to a half or less. Rounds end as `measure` ends them.
    """

    def turn(rtfx: float) -> float:
        slowed = 1.0 + (1.0 + chance.expovariate(1.0) if chance.random() < busy else 0.0)
        return rtfx * chance.lognormvariate(0.0, spread) / slowed

    turns: dict[str, list[float]] = {p: [] for p in true}
    for _ in range(measure._MOST):
        if measure._is_enough(turns, 0.0):
            break
        for precision, rtfx in true.items():
            turns[precision].append(turn(rtfx))
    ends = {p: bounds(values) for p, values in turns.items()}
    # as measured of Parakeet, and of a model so small that it is mostly the process
    load_s = {"fp32": 0.2, "fp16": 0.2} if small else {"fp32": 3.1, "fp16": 5.9}
    peak_mib = {"fp32": 155.0, "fp16": 150.0} if small else {"fp32": 2952.0, "fp16": 4590.0}
    return Known(
        "cpu",
        {p: None if p in true else "not here" for p in PRECISIONS},
        {p: Proof(True, "") for p in true},
        {
            (p, "cpu"): Measurement(
                sorted(values)[len(values) // 2],
                correct=True,
                load_s=load_s.get(p, load_s["fp32"]) * chance.lognormvariate(0.0, spread),
                peak_mib=peak_mib.get(p, peak_mib["fp32"]) * chance.lognormvariate(0.0, 0.03),
                rtfx_low=ends[p][0],
                rtfx_high=ends[p][1],
            )
            for p, values in turns.items()
        },
        {},
    )


@pytest.mark.parametrize(
    ("spread", "busy"), [(0.01, 0.0), (0.05, 0.1), (0.1, 0.3), (0.2, 0.5), (0.4, 0.0)]
)
def test_noise_alone_never_takes_fp16_on_a_cpu(spread: float, busy: float) -> None:
    chance = random.Random(1)
    known = [
        set_up(chance, spread, busy, small=number % 2 == 0, fp32=10.0, fp16=10.0)
        for number in range(2000)
    ]
    taken = [choose("auto", one).precision for one in known]
    assert taken.count("fp16") <= 6  # 3 in 1000
    # one measurement of each, which is what set-up went by before, flips
    if spread >= 0.1:
        once = [one.measured["fp16", "cpu"].rtfx > 1.05 * one.measured["fp32", "cpu"].rtfx
                for one in known]  # fmt: skip
        assert sum(once) > 100


@pytest.mark.parametrize(("spread", "busy"), [(0.02, 0.0), (0.05, 0.1), (0.2, 0.05)])
def test_int8_twice_as_fast_is_found_to_be(spread: float, busy: float) -> None:
    chance = random.Random(2)
    found = [set_up(chance, spread, busy, fp32=10.0, int8=22.0) for _ in range(500)]
    taken = [choose("auto", known, auto_int8=True).precision for known in found]
    assert taken.count("int8") >= 0.97 * len(taken)


def test_the_tie_goes_to_fp16_on_a_gpu_however_noisy() -> None:
    chance = random.Random(3)
    taken = []
    for _ in range(1000):
        known = set_up(chance, 0.2, 0.3, fp32=10.0, fp16=10.0)
        on_gpu = {(p, "cuda"): figures for (p, _), figures in known.measured.items()}
        taken.append(choose("auto", replace(known, provider="cuda", measured=on_gpu)).precision)
    assert taken.count("fp32") <= 3


# --- real processes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model in fp32 and fp16."""
    folder = tmp_path_factory.mktemp("digits")
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("clips"), dirs_exist_ok=True)
    names = [FAMILIES["nemo-conformer-tdt"].graphs(p) for p in ("fp32", "fp16")]
    for source, target in zip(*names, strict=True):
        fp16.convert(folder / source, folder / target)
    return folder


def test_each_has_its_turns_and_what_does_not_run_says_why(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_FEWEST", 3)
    monkeypatch.setattr(measure, "_LONG_ENOUGH_S", 0.0)
    seen: list[str] = []
    found = compare(digits, ["fp32", "fp16"], "cpu", lambda stage, *_: seen.append(stage))
    for precision in ("fp32", "fp16"):
        speed = found[precision]
        assert isinstance(speed, measure.Speed)
        assert speed.provider == "cpu"
        assert speed.turns >= 3
        assert speed.rtfx_low is not None
        assert speed.rtfx_high is not None
        assert 1 < speed.rtfx_low <= speed.rtfx <= speed.rtfx_high
        assert speed.load_s > 0
        assert sys.platform == "win32" or (speed.peak_mib or 0) > 50
    assert seen[:2] == ["loading fp32 on cpu", "loading fp16 on cpu"]
    assert seen[2] == "measuring fp32 and fp16 on cpu, in turns"


def test_one_that_does_not_load_beside_the_others_does_not_keep_them_from_it(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Child(measure._Child):
        def __enter__(self) -> Child:
            if self._precision == "int8":
                raise ModelError("it does not load")
            self._loaded = measure.Speed(self._precision, "cpu", 0.0, 1.0, None)
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def turn(self) -> float:
            return 10.0

    monkeypatch.setattr(measure, "_Child", Child)
    found = compare(digits, ["fp32", "int8"], "cpu")
    assert isinstance(found["fp32"], measure.Speed)
    assert found["fp32"].turns == measure._APART_ROUNDS * measure._APART_TURNS
    assert str(found["int8"]) == "it does not load"


def test_measuring_something_broken_names_the_cause(digits: Path, tmp_path: Path) -> None:
    for folder, precision, cause in (
        (tmp_path / "none", "fp32", "no such model folder"),
        (digits, "int8", "no int8 files"),
    ):
        found = compare(folder, [precision], "cpu")[precision]
        assert isinstance(found, ModelError)
        assert f"{precision} on cpu did not run: " in str(found)
        assert cause in str(found)


def test_ctrl_c_leaves_nothing_that_the_programs_end_waits_for(tmp_path: Path) -> None:
    class Interrupted:
        def readline(self) -> str:
            raise KeyboardInterrupt

    child = measure._Child(tmp_path, "fp32", "cpu")
    child._process = SimpleNamespace(stdout=Interrupted(), kill=lambda: None)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        child._answer()
    for timer in (one for one in threading.enumerate() if isinstance(one, threading.Timer)):
        timer.join(5.0)
        assert not timer.is_alive()
