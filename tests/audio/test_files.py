"""Recordings as people have them: what is read is what was written, or an error names the cure."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stt.audio.files import open_audio
from stt.errors import AudioError
from stt.system.files import printable
from support.media import Samples, encode, silent_video, tone, wav, write

RATE = 16_000
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX files")


def read(source: str | Path) -> tuple[Samples, int]:
    with open_audio(source) as stream:
        blocks = list(stream.blocks)
    assert all(b.dtype == np.float32 and b.ndim == 1 and b.flags.c_contiguous for b in blocks)
    return np.concatenate(blocks), stream.sample_rate


def refusal(source: str | Path) -> str:
    with pytest.raises(AudioError) as caught, open_audio(source) as stream:
        for _ in stream.blocks:
            pass
    text = str(caught.value)
    assert text.startswith(f"{printable(str(source))}: ")
    assert "\n" not in text
    assert "; " in text, "no cure"
    return text


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_wav_of_any_rate_and_channel_count(tmp_path: Path, rate: int, channels: int) -> None:
    mono = tone(1.0, rate)
    path = write(tmp_path / "a.wav", np.repeat(mono[:, None], channels, 1), rate)
    found, found_rate = read(path)
    assert found_rate == rate
    np.testing.assert_allclose(found, mono, atol=1e-4)


@pytest.mark.parametrize(
    ("subtype", "error"),
    [
        ("PCM_U8", 1e-2),
        ("PCM_16", 1e-4),
        ("PCM_24", 1e-6),
        ("PCM_32", 1e-6),
        ("FLOAT", 1e-7),
        ("DOUBLE", 1e-7),
        ("ULAW", 3e-2),
        ("ALAW", 3e-2),
        ("MS_ADPCM", 5e-2),
        ("IMA_ADPCM", 5e-2),
    ],
)
def test_wav_of_any_sample_format(tmp_path: Path, subtype: str, error: float) -> None:
    samples = tone(1.0, RATE)
    found, _ = read(write(tmp_path / "a.wav", samples, RATE, subtype))
    begun = slice(100, len(samples))  # IMA ADPCM adapts its step first
    np.testing.assert_allclose(found[begun], samples[begun], atol=error)


@pytest.mark.parametrize("form", ["flac", "aiff", "au", "w64", "caf", "rf64", "wavex"])
def test_lossless_through_libsndfile(tmp_path: Path, form: str) -> None:
    samples, path = tone(1.0, RATE), tmp_path / f"a.{form}"
    soundfile.write(path, samples, RATE, "PCM_16", format=form)
    np.testing.assert_allclose(read(path)[0], samples, atol=1e-4)


@POSIX
def test_a_piped_wav_may_be_longer_than_the_size_it_names(tmp_path: Path) -> None:
    """The size that ffmpeg leaves before 13.6 h of CD quality (in a file with holes, not read)."""
    path, seconds = tmp_path / "a.wav", 13.6 * 3600
    path.write_bytes(wav(tone(0.0, 44_100), 44_100, riff=0xFFFFFFFF, data=0xFFFFFFFF))
    os.truncate(path, round(44_100 * 2 * seconds))
    with open_audio(path) as stream:
        assert stream.duration == pytest.approx(seconds, abs=1)
    path.unlink()


@pytest.mark.parametrize(
    "chunks",
    [
        *({"riff": size, "data": size} for size in (0, 0xFFFFFFFF, 0x7FFFFFDB, 0x80000000)),
        {"before": b"LIST\x0a\0\0\0INFOISFT\0\0"},
        {"before": b"LIST\x0b\0\0\0INFOISFT\0\0\0\0"},
        {"after": b"LIST\x0a\0\0\0INFOISFT\0\0"},
        {"after": b"not a chunk at all"},
        {"riff": 36},
    ],
)
def test_a_wav_with_other_chunks_and_odd_sizes(tmp_path: Path, chunks: dict[str, Any]) -> None:
    """Programs that write to a pipe do not know the size."""
    samples, path = tone(1.5, RATE), tmp_path / "a.wav"
    path.write_bytes(wav(samples, RATE, **chunks))
    np.testing.assert_allclose(read(path)[0], samples, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "wav") for name in ("plain", "lies.mp3", "lies.raw", "lies.m4a", "10:30.wav")),
        *((name, "m4a") for name in ("10:30.m4a", "ñ 漢字 100%.m4a", "img%03d.m4a")),
    ],
)
def test_any_name_for_the_content_decides(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "wav":
        path.write_bytes(wav(tone(1.0, RATE), RATE))
    else:
        encode(tmp_path / "plain.m4a", tone(1.0, RATE), RATE, "aac").rename(path)
    assert len(read(path)[0]) == pytest.approx(RATE, abs=2048 if kind == "m4a" else 0)


@POSIX
@pytest.mark.parametrize("name", [b"b\xff.wav", b"-a.wav", b"two\nlines.wav"])
def test_a_name_that_is_no_text(
    tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = os.fsdecode(name)
    try:
        Path(named).write_bytes(wav(tone(1.0, RATE), RATE))
    except OSError:
        pytest.skip("this disk takes no such name")
    assert len(read(named)[0]) == RATE
    Path(named).write_bytes(b"nothing of use")
    refusal(named).encode("utf-8")


@POSIX
def test_a_fifo_is_read_whole(tmp_path: Path) -> None:
    fifo, content = tmp_path / "fifo.wav", wav(tone(3.0, RATE), RATE)
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(content,))
    writer.start()
    assert len(read(fifo)[0]) == 3 * RATE
    writer.join()


def test_blocks_are_small_whatever_the_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(30.0, RATE), RATE)
    with open_audio(path) as stream:
        assert stream.duration == 30.0
        assert max(len(block) for block in stream.blocks) <= 1 << 15


# --- standard input -----------------------------------------------------------------------------


def from_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_standard_input_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spool"))
    (tmp_path / "spool").mkdir()
    content = encode(tmp_path / "a.m4a", tone(2.0, RATE), RATE, "aac").read_bytes()
    from_stdin(monkeypatch, content)
    assert len(read("-")[0]) == pytest.approx(2 * RATE, abs=2048)
    from_stdin(monkeypatch, content)
    with pytest.raises(KeyboardInterrupt), open_audio("-"):
        raise KeyboardInterrupt
    assert not list((tmp_path / "spool").iterdir())


def test_empty_and_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    from_stdin(monkeypatch, b"")
    assert "nothing came in" in refusal("-")
    monkeypatch.setattr(sys, "stdin", None)
    assert "nothing is piped in" in refusal("-")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_no_room_for_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    from_stdin(monkeypatch, wav(tone(2.0, RATE), RATE))
    full = Path("/dev/full").open("w+b", buffering=0)  # noqa: SIM115 - the code under test closes it
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: full)
    with pytest.raises(AudioError, match="set TMPDIR"), open_audio("-"):
        pass


# --- bad files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *(("gone.wav", "no such file"), ("gone/gone.wav", "no such file")),
        *(("nul\0byte.wav", "no such file"), ("x" * 300 + ".wav", "check the path")),
        *((".", "is a folder"), ("empty.wav", "0 bytes"), ("no-samples.wav", "holds no audio")),
        pytest.param("/dev/null", "is a device", marks=POSIX),
    ],
)
def test_what_is_no_recording(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "no-samples.wav").write_bytes(wav(tone(0.0, RATE), RATE))
    assert reason in refusal(tmp_path / name)


@POSIX
def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to("a.wav")
    assert "cannot be opened" in refusal(tmp_path / "a.wav")


@POSIX
def test_a_file_one_may_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1.0, RATE), RATE)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "check its rights" in refusal(path)


NO_SOUND = {
    "text": b"Eggs, milk, bread and something for the cat.\n" * 50,
    "noise": np.random.default_rng(1).bytes(80_000),
    "zeros": bytes(80_000),
}
SUFFIXES = ("wav", "flac", "mp3", "ogg", "m4a", "mkv")


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *(("text", s) for s in (*SUFFIXES[:-1], "au", "aiff", "snd", "vox", "gsm", "raw", "m3u8")),
        *((kind, suffix) for kind in NO_SOUND for suffix in (*SUFFIXES, "txt")),
    ],
)
def test_bytes_that_are_no_sound(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(NO_SOUND[kind])
    refusal(path)


def test_a_video_without_sound(tmp_path: Path) -> None:
    assert "no sound track" in refusal(silent_video(tmp_path / "a.mp4"))


def test_a_sample_rate_that_cannot_be(tmp_path: Path) -> None:
    for rate in (1, 2_000_000_000):
        (tmp_path / "a.wav").write_bytes(
            wav(tone(0.1, RATE), RATE).replace(
                RATE.to_bytes(4, "little"), rate.to_bytes(4, "little")
            )
        )
        assert "sample rate" in refusal(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au", "a.w64"])
def test_cut_short_or_damaged_through_libsndfile(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, 5 * RATE).astype(np.float32)
    path = write(tmp_path / name, noise, RATE, "PCM_16")
    whole = path.read_bytes()
    for share in (0.3, 0.6):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "truncated" in refusal(path)
    if name == "a.flac":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes(200) + whole[middle + 200 :])
        assert "damaged" in refusal(path)


def test_decoders_keep_quiet(tmp_path: Path) -> None:
    """mpg123 and FFmpeg print warnings by themselves unless kept from it."""
    speech = np.random.default_rng(3).uniform(-0.9, 0.9, 3 * 22_050).astype(np.float32)
    good = encode(tmp_path / "a.mp3", speech, 22_050, "mp3")
    content = good.read_bytes()
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    (tmp_path / "zeros.mp3").write_bytes(bytes(80_000))
    (tmp_path / "joined.mp3").write_bytes(content + content)
    program = (
        "import sys\nfrom stt.audio.files import open_audio\nfrom stt.errors import AudioError\n"
        "for name in sys.argv[1:]:\n  try:\n    with open_audio(name) as s: list(s.blocks)\n"
        "  except AudioError: print('refused')\n"
    )
    names = sorted(str(path) for path in tmp_path.glob("*.mp3"))
    done = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.count("refused") == 2
