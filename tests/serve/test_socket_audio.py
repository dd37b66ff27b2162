from __future__ import annotations

import base64
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.serve.socket_audio import LONGEST_APPEND, AudioDecoder, AudioFormat, NotAudio


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(("encoding", "codec"), [("pcmu", "pcm_mulaw"), ("pcma", "pcm_alaw")])
def test_g711_is_what_ffmpeg_makes_of_it(encoding, codec) -> None:
    data = bytes(range(256))
    context = av.CodecContext.create(codec, "r")
    context.sample_rate, context.layout = 8000, "mono"
    (frame,) = context.decode(av.Packet(data))
    expected = frame.to_ndarray().reshape(-1).astype(np.float32) / 32_768
    found = AudioDecoder(AudioFormat(encoding, 8000))(text(data))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@given(st.lists(st.integers(-(2**15), 2**15 - 1)), st.lists(st.integers(0, 400), max_size=5))
def test_pcm_may_be_cut_anywhere(values, cuts) -> None:
    samples = np.array(values, "<i2")
    data, decode = samples.tobytes(), AudioDecoder(AudioFormat())
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [decode(text(data[a:b])) for a, b in pairwise(places)]
    np.testing.assert_array_equal(np.concatenate(pieces), samples.astype(np.float32) / 32_768)


def test_what_was_cut_off_is_forgotten_with_what_it_belonged_to() -> None:
    decode = AudioDecoder(AudioFormat())
    assert not len(decode(text(b"\x01")))
    decode.forget()
    assert decode(text(b"\x00\x40")).tolist() == [0.5]


@pytest.mark.parametrize("wrong", ["a", "ab=c", "äöü=", "!!!!", "\ud800AAA"])
def test_what_is_no_base64_is_told(wrong) -> None:
    with pytest.raises(NotAudio, match="base64"):
        AudioDecoder(AudioFormat())(wrong)


def test_one_event_takes_so_much() -> None:
    decode = AudioDecoder(AudioFormat())
    assert len(decode("A" * LONGEST_APPEND)) == LONGEST_APPEND * 3 // 8
    with pytest.raises(NotAudio, match="smaller pieces"):
        decode("A" * (LONGEST_APPEND + 4))
