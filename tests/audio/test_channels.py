"""Channels that cancel are found and read; all others stay their plain mean, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio.channels import CANCELLING_NOTE, Downmix
from stt.audio.files import open_audio
from support.media import Samples, encode, write
from support.paths import ROOT


@pytest.fixture(scope="module")
def speech() -> tuple[Samples, int]:
    """Eight seconds of a voice."""
    samples, rate = soundfile.read(ROOT / "samples" / "story.flac", dtype="float32")
    return samples[: 8 * rate], rate


def mixed(samples: Samples, rate: int, block: int = 30_000) -> tuple[Samples, bool]:
    downmix = Downmix(rate)
    parts = (samples[start : start + block] for start in range(0, len(samples), block))
    return np.concatenate(list(downmix.mixed(parts))), downmix.cancels


def noise(count: int, level: float) -> Samples:
    return np.asarray(np.random.default_rng(5).standard_normal(count) * level, np.float32)


def likeness(one: Samples, other: Samples) -> float:
    with np.errstate(invalid="ignore"):  # silence is like nothing
        return float(np.nan_to_num(np.corrcoef(one, other)[0, 1]))


CANCELLING = {
    "inverted": lambda s, n: [s, -s],
    "inverted and softer": lambda s, n: [s, -0.7 * s],
    "noise in both": lambda s, n: [s + 0.3 * n, -s + 0.3 * n],
    "partly correlated": lambda s, n: [s, -0.9 * s + n],
    "inverted and a sample late": lambda s, n: [s, -np.roll(s, 1)],
    "four channels, two of them silent": lambda s, n: [s, -s, 0 * s, 0 * s],
    "four channels, a quiet room": lambda s, n: [s, -s, 0.1 * n, 0.1 * np.roll(n, 99)],
    "six channels, the front inverted": lambda s, n: [s, -s, 0 * s, 0 * s, 0.05 * n, 0.05 * n],
}
ORDINARY = {
    "the same in both": lambda s, n: [s, s],
    "one silent": lambda s, n: [s, 0 * s],
    "the other silent": lambda s, n: [0 * s, s],
    "two voices": lambda s, n: [s, s[::-1]],
    "noise in the other": lambda s, n: [s, n],
    "panned": lambda s, n: [s, 0.4 * s],
    "one late by 1.1 ms": lambda s, n: [s, np.roll(s, 18)],
    "one late by 20 ms": lambda s, n: [s, np.roll(s, 320)],
    "inverted and late by 10 ms": lambda s, n: [s, -np.roll(s, 160)],
    "four of a room": lambda s, n: [s + 0.1 * n, np.roll(s, 9), np.roll(s, 30), np.roll(n, 7)],
    "six channels, the centre alone": lambda s, n: [0 * s, 0 * s, s, 0 * s, 0 * s, 0 * s],
}


@pytest.mark.parametrize("case", CANCELLING)
def test_channels_that_cancel_are_heard(speech: tuple[Samples, int], case: str) -> None:
    samples, rate = speech
    made = np.stack(CANCELLING[case](samples, noise(len(samples), samples.std())), 1)
    found, cancels = mixed(made.astype(np.float32), rate)
    assert cancels
    assert len(found) == len(samples)
    assert likeness(found, samples) > 0.85
    assert found.std() > 0.3 * samples.std()
    assert (
        likeness(made.mean(axis=1), samples) < 0.85 or made.mean(axis=1).std() < 0.2 * found.std()
    )


@pytest.mark.parametrize("case", ORDINARY)
@pytest.mark.parametrize("block", [997, 32_768])
def test_ordinary_channels_are_their_mean(
    speech: tuple[Samples, int], case: str, block: int
) -> None:
    samples, rate = speech
    made = np.stack(ORDINARY[case](samples, noise(len(samples), samples.std())), 1)
    made = made.astype(np.float32)
    found, cancels = mixed(made, rate, block)
    assert not cancels
    np.testing.assert_array_equal(found, made.mean(axis=1))


@pytest.mark.parametrize("first", [False, True])
def test_nothing_is_lost_where_one_kind_follows_the_other(
    speech: tuple[Samples, int], first: bool
) -> None:
    samples, rate = speech
    made = np.stack([samples, samples], 1)
    half = slice(None, len(made) // 2) if first else slice(len(made) // 2, None)
    made[half, 1] *= -1
    found, cancels = mixed(made, rate)
    assert cancels
    seconds = np.add.reduceat((found - samples) ** 2, range(0, len(samples), rate))
    loud = np.add.reduceat(samples**2, range(0, len(samples), rate))
    assert (seconds < 0.05 * loud.max()).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_sample_that_is_no_number_costs_no_other(speech: tuple[Samples, int], bad: float) -> None:
    samples, rate = speech
    made = np.stack([samples, -samples], 1)
    made[5 * rate, 0] = bad
    found, cancels = mixed(made, rate)
    assert cancels
    assert np.isfinite(np.delete(found, 5 * rate)).all()
    np.testing.assert_allclose(found[: 5 * rate], samples[: 5 * rate], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 3_000), max_size=12),
    channels=st.lists(st.sampled_from([1, 2, 6]), min_size=12, max_size=12),
    gain=st.sampled_from([-1.0, 0.0, 1.0]),
)
def test_as_many_samples_come_out_as_go_in(
    lengths: list[int], channels: list[int], gain: float
) -> None:
    parts = []
    for number, (length, count) in enumerate(zip(lengths, channels, strict=False)):
        part = np.full((length, count), 0.1 * (number + 1), np.float32)
        part[:, 1:] *= gain
        parts.append(part)
    found = list(Downmix(1_000).mixed(iter(parts)))
    assert sum(map(len, found)) == sum(lengths)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wav", ""), ("a.flac", ""), ("a.m4a", "aac"), ("a.opus", "libopus"), ("a.mp3", "mp3")],
)
def test_channels_that_cancel_in_any_container(
    tmp_path: Path, speech: tuple[Samples, int], name: str, codec: str
) -> None:
    samples, rate = speech[0][: 5 * speech[1]], speech[1]
    made, path = np.stack([samples, -samples], 1), tmp_path / name
    if codec == "libopus":
        made, rate = np.repeat(made, 3, axis=0), rate * 3
    if codec:
        encode(path, made, rate, codec)
    else:
        write(path, made, rate)
    with open_audio(path) as stream:
        found = np.concatenate(list(stream.blocks))
    assert found.std() > 0.8 * samples.std()
    assert stream.damage.notes == [CANCELLING_NOTE]
    assert stream.channels == 2
