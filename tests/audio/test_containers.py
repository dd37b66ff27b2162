"""What goes through PyAV: times as a player shows them, joined files whole, damage reported."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from test_files import read, refusal

from stt.audio.files import open_audio
from support.media import click, encode, loudest, tone, write

RATE = 48_000
FORMATS = [
    ("a.mp3", "mp3"),
    ("a.ogg", "soundfile"),
    ("a.opus", "libopus"),
    ("a.m4a", "aac"),
    ("a.mp4", "aac"),
    ("a.mov", "aac"),
    ("a.webm", "libopus"),
    ("a.mkv", "libopus"),
    ("a.mka", "flac"),
    ("a.aac", "aac"),
    ("a.wma", "wmav2"),
    ("a.wv", "wavpack"),
    ("a.ts", "aac"),
    ("a.avi", "mp3"),
]


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        *((*each, RATE) for each in FORMATS),
        *(("a.mp3", "mp3", rate) for rate in (8_000, 11_025, 22_050, 44_100)),
    ],
)
def test_sound_keeps_its_place(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    for channels in (1, 2):
        samples = np.repeat(click(1.5, 3.0, rate)[:, None], channels, 1)
        found, found_rate = read(encode(tmp_path / name, samples, rate, codec))
        assert found_rate == rate
        unpadded = name.endswith(("aac", "ts", "avi", "wma"))  # none notes the encoder's delay
        assert len(found) / rate == pytest.approx(3.0, abs=0.08 if unpadded else 0.03)
        assert loudest(found, rate) == pytest.approx(1.5025, abs=0.06 if unpadded else 0.004)
        if rate != RATE:
            assert len(found) == 3 * rate


@pytest.mark.parametrize(
    ("name", "codec", "channels"),
    [("a.mp4", "aac", 1), ("a.mp4", "aac", 6), ("a.mkv", "libopus", 1)],
)
@pytest.mark.parametrize("late", [0.0, 2.0])
def test_sound_of_a_video_also_where_it_begins_after_the_picture(
    tmp_path: Path, name: str, codec: str, channels: int, late: float
) -> None:
    samples = np.repeat(click(1.0, 2.0)[:, None], channels, 1)
    found, rate = read(encode(tmp_path / name, samples, RATE, codec, video=True, late=late))
    assert loudest(found, rate) == pytest.approx(late + 1.0025, abs=0.004)


@pytest.mark.parametrize(
    ("name", "codec", "form"), [("a.webm", "libopus", "webm"), ("a.mkv", "aac", "matroska")]
)
def test_a_container_without_duration(tmp_path: Path, name: str, codec: str, form: str) -> None:
    path = encode(tmp_path / name, click(1.5, 3.0), RATE, codec, form=form, piped=True)
    with open_audio(path) as stream:
        assert stream.duration is None
        assert sum(map(len, stream.blocks)) / RATE == pytest.approx(3.0, abs=0.03)


def test_a_flac_without_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", click(1.5, 3.0), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO: 36 bits of total samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    found, rate = read(path)
    assert len(found) == 3 * rate


@pytest.mark.parametrize(
    ("first", "second", "codec"),
    [
        *((("a.ogg", 48_000, 1), ("b.ogg", 48_000, 1), "soundfile"),),
        *((("a.opus", 48_000, 1), ("b.opus", 48_000, 1), "libopus"),),
        *((("a.mp3", 22_050, 1), ("b.mp3", 44_100, 2), "mp3"),),
    ],
)
def test_joined_recordings_are_read_whole(
    tmp_path: Path, first: tuple[str, int, int], second: tuple[str, int, int], codec: str
) -> None:
    content = b""
    for name, rate, channels in (first, second):
        samples = np.repeat(tone(2.0, rate)[:, None], channels, 1)
        content += encode(tmp_path / name, samples, rate, codec).read_bytes()
    path = tmp_path / f"joined-{first[0]}"
    path.write_bytes(content)
    found, rate = read(path)
    assert len(found) / rate == pytest.approx(4.0, abs=0.2 if codec == "mp3" else 0.05)


def test_an_mp3_cut_out_of_a_stream(tmp_path: Path) -> None:
    content = encode(tmp_path / "a.mp3", tone(5.0, 44_100), 44_100, "mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(content[5_001:-333])
    found, rate = read(tmp_path / "b.mp3")
    assert len(found) / rate > 4.0


def test_an_mp3_with_a_picture_and_no_length(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, 3 * 44_100).astype(np.float32)
    plain = encode(tmp_path / "a.mp3", noise, 44_100, "mp3", options={"write_xing": "0"})
    size = 60_000
    tag = b"ID3\x03\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    picture = b"APIC" + struct.pack(">IH", size - 10, 0) + b"\0image/jpeg\0\x03\0"
    content = plain.read_bytes()
    content = content[content.index(b"\xff\xfb") :]
    (tmp_path / "b.mp3").write_bytes(tag + picture.ljust(size, b"\x11") + content)
    assert len(read(tmp_path / "b.mp3")[0]) / 44_100 == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [*((*each, {}) for each in FORMATS[:9]), ("faststart.m4a", "aac", {"movflags": "faststart"})],
)
def test_cut_short(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    noise = np.random.default_rng(4).uniform(-0.5, 0.5, 4 * RATE).astype(np.float32)
    path = encode(tmp_path / name, noise, RATE, codec, options=options)
    whole = path.read_bytes()
    for share in (0.3, 0.6):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "truncated" in refusal(path)


def test_sound_shorter_than_its_video_is_not_cut_short(tmp_path: Path) -> None:
    import av

    path = encode(tmp_path / "a.mkv", tone(2.0, RATE), RATE, "libopus", video=True)
    longer = tmp_path / "b.mkv"
    with av.open(str(path)) as source, av.open(str(longer), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio" and packet.pts * packet.time_base > 0.5:
                continue
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    assert len(read(longer)[0]) / RATE == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("name", "codec"), FORMATS[1:9])
def test_damage_in_the_middle(tmp_path: Path, name: str, codec: str) -> None:
    noise = np.random.default_rng(4).uniform(-0.5, 0.5, 6 * RATE).astype(np.float32)
    path = encode(tmp_path / name, noise, RATE, codec)
    content = bytearray(path.read_bytes())
    begin, end = len(content) * 4 // 10, len(content) * 6 // 10
    content[begin:end] = np.random.default_rng(6).bytes(end - begin)
    path.write_bytes(content)
    assert "damaged" in refusal(path) or "truncated" in refusal(path)


@pytest.mark.parametrize("name", ["a.ogg", "a.m4a", "a.mka", "a.flac", "a.mp3"])
def test_what_lies_behind_damage_can_be_had_in_its_place(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(4).uniform(-0.4, 0.4, 20 * RATE).astype(np.float32)
    noise[18 * RATE : 18 * RATE + RATE // 4] *= 0  # a mark behind the damage
    codecs = dict(FORMATS)
    whole = tmp_path / name
    if name == "a.flac":
        write(whole, noise, RATE)
    else:
        encode(whole, noise, RATE, codecs[name])
    content = bytearray(whole.read_bytes())
    begin, end = len(content) * 40 // 100, len(content) * 45 // 100
    content[begin:end] = np.random.default_rng(6).bytes(end - begin)
    path = tmp_path / f"damaged{whole.suffix}"
    path.write_bytes(content)
    with open_audio(path, tolerant=True) as stream:
        samples = np.concatenate(list(stream.blocks))
        assert stream.sample_rate == RATE
    assert stream.damage.failures
    assert all("damaged" in line and "\n" not in line for line in stream.damage.failures)
    if name == "a.mp3":  # its frames know no times: what is missing is missing
        assert 18.0 < len(samples) / RATE < 19.5
        return
    assert len(samples) / RATE == pytest.approx(20.0, abs=0.1)
    levels = np.abs(samples[17 * RATE : 19 * RATE]).reshape(-1, RATE // 20).mean(axis=1)
    assert np.argmin(np.convolve(levels, np.ones(5), "valid")) == pytest.approx(20, abs=1)


@pytest.mark.parametrize("name", ["a.wav", "a.caf"])
def test_of_one_that_is_cut_short_what_is_there_can_be_had(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, tone(8.0, RATE), RATE, "PCM_16")
    with open_audio(path) as stream:
        assert sum(map(len, stream.blocks)) == 8 * RATE
        assert stream.damage.notes == []
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    assert "truncated" in refusal(path)
    with open_audio(path, tolerant=True) as stream:
        assert sum(map(len, stream.blocks)) / RATE == pytest.approx(2.0, abs=0.1)
    (line,) = stream.damage.failures
    assert line.startswith("truncated: 8.0 s promised")


def test_a_playlist_reaches_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n")
    refusal(path)


def test_pyav_19_is_not_told_what_it_does_by_itself() -> None:
    """It refuses the argument that those before need to pass over titles that are no UTF-8."""
    from stt.audio.containers import _lenient

    assert _lenient("19.0.2") == {}
    assert _lenient("18.1.0") == _lenient("13.0.0") == {"metadata_errors": "ignore"}


def test_junk_behind_the_end_costs_nothing(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wv", tone(2.0, RATE), RATE, "wavpack")
    path.write_bytes(path.read_bytes() + b"This is a note, and no sound. " * 40)
    with open_audio(path) as stream:
        assert sum(map(len, stream.blocks)) == 2 * RATE
        assert len(stream.damage.notes) == 1
