"""A container's clock: where it starts, what it leaves out, where it jumps."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from stt.audio.files import open_audio
from support.media import Samples, click, encode, loudest, tone

RATE = 48_000


def heard(path: Path, rate: int = RATE) -> tuple[Samples, float | None, list[str], list[str]]:
    """What is read, the seconds stated, damage and notes."""
    with open_audio(path, tolerant=True) as stream:
        samples = np.concatenate(list(stream.blocks))
    assert stream.sample_rate == rate
    return samples, stream.duration, stream.damage.failures, stream.damage.notes


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("a.mkv", "libopus"), ("a.webm", "libopus"), ("a.mka", "flac"), ("a.opus", "libopus")),
        *(("a.ts", "aac"), ("a.mp4", "aac")),
    ],
)
@pytest.mark.parametrize("late", [3.0, 5_000.0])
def test_a_clock_need_not_start_at_zero(tmp_path: Path, name: str, codec: str, late: float) -> None:
    path = encode(tmp_path / name, click(1.5, 3.0), RATE, codec, late=late)
    samples, duration, failures, notes = heard(path)
    assert (failures, notes) == ([], [])
    assert len(samples) / RATE == pytest.approx(3.0, abs=0.1)
    assert duration == pytest.approx(3.0, abs=0.1)
    assert loudest(samples, RATE) == pytest.approx(1.5025, abs=0.06)


def shifted(ogg: bytes, granules: int) -> bytes:
    """An Ogg whose pages of sound are those of a stream that began earlier (RFC 3533)."""
    out, at = bytearray(ogg), 0
    while (at := ogg.find(b"OggS", at)) >= 0:
        segments = ogg[at + 26]
        end = at + 27 + segments + sum(ogg[at + 27 : at + 27 + segments])
        (granule,) = struct.unpack("<q", ogg[at + 6 : at + 14])
        if granule > 0:
            out[at + 6 : at + 14] = struct.pack("<q", granule + granules)
            out[at + 22 : at + 26] = bytes(4)
            out[at + 22 : at + 26] = struct.pack("<I", _crc(bytes(out[at:end])))
        at = end
    return bytes(out)


def _crc(page: bytes) -> int:
    """CRC-32 of polynomial 0x04c11db7, neither reflected nor inverted."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)
        crc &= 0xFFFFFFFF
    return crc


@pytest.mark.parametrize(("name", "codec"), [("a.ogg", "soundfile"), ("a.opus", "libopus")])
@pytest.mark.parametrize("seconds", [3.0, 20.0])
def test_an_ogg_cut_out_of_a_stream(tmp_path: Path, name: str, codec: str, seconds: float) -> None:
    path = encode(tmp_path / name, click(1.5, seconds), RATE, codec)
    path.write_bytes(shifted(path.read_bytes(), 5_000 * RATE))
    samples, duration, failures, notes = heard(path)
    assert (failures, notes) == ([], [])
    assert len(samples) / RATE == pytest.approx(seconds, abs=0.1)
    assert loudest(samples, RATE) == pytest.approx(1.5025, abs=0.06)
    if (name, seconds) != ("a.ogg", 3.0):  # all in one page, which states only its end
        assert duration == pytest.approx(seconds, abs=0.2)


@pytest.mark.parametrize(
    ("early", "late"), [(0.0, 36_000.0), (0.0, 95_000.0), (0.0, 600.0), (5_000.0, 0.0)]
)
def test_transport_streams_joined_go_on_where_the_first_ends(
    tmp_path: Path, early: float, late: float
) -> None:
    first = encode(tmp_path / "a.ts", tone(2.0, RATE), RATE, "aac", late=early).read_bytes()
    other = encode(tmp_path / "b.ts", click(1.0, 2.0), RATE, "aac", late=late).read_bytes()
    path = tmp_path / "c.ts"
    path.write_bytes(first + other)
    samples, duration, failures, notes = heard(path)
    assert failures == []
    assert len(samples) / RATE == pytest.approx(4.0, abs=0.2)
    if late:
        assert loudest(samples[5 * RATE // 2 :], RATE) == pytest.approx(0.5, abs=0.15)
        assert duration is None or duration < 100 * 3600
        (note,) = notes
        assert note.startswith("its clock jumps by ")


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "aac"), ("a.mkv", "libopus")])
@pytest.mark.parametrize("hole", [5.0, 40.0])
def test_times_follow_the_clock_over_a_hole(
    tmp_path: Path, name: str, codec: str, hole: float
) -> None:
    """As a recorder leaves that lost its signal for a while."""
    import av

    samples = np.concatenate([click(1.0, 2.0), click(1.0, 2.0)])
    whole, path = encode(tmp_path / f"whole-{name}", samples, RATE, codec), tmp_path / name
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        (track,) = source.streams.audio
        stream = out.add_stream_from_template(track)
        start = None
        for packet in source.demux(track):
            if packet.dts is None:
                continue
            start = packet.pts if start is None else start
            if (packet.pts - start) * packet.time_base >= 2.0:
                packet.pts += round(hole / packet.time_base)
                packet.dts = packet.pts
            packet.stream = stream
            out.mux(packet)
    found, _, failures, notes = heard(path)
    assert (failures, notes) == ([], [])
    assert len(found) / RATE == pytest.approx(4.0 + hole, abs=0.2)
    assert loudest(found[3 * RATE :], RATE) == pytest.approx(hole, abs=0.1)


def test_figures_in_a_message_differ(tmp_path: Path) -> None:
    rate = 8_000
    noise = np.random.default_rng(4).uniform(-0.5, 0.5, 60 * rate).astype(np.float32)
    path = encode(tmp_path / "a.wav", noise, rate, "pcm_s16le")
    whole = path.read_bytes()
    for share in (0.5, 0.9, 0.97, 0.985, 0.999, 0.99999):
        path.write_bytes(whole[: int(len(whole) * share)])
        _, _, failures, notes = heard(path, rate)
        assert len(failures) + len(notes) == 1
        assert bool(failures) == (share < 0.98)
        for line in failures:
            promised, there = line.split(": ", 1)[1].split(" s promised, ")
            assert promised != there.split(" s there")[0]
