from __future__ import annotations

import openai.types.beta.realtime as beta_types
import openai.types.realtime as types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.serve.realtime_config import BadEvent, SessionConfig, updated
from stt.serve.realtime_events import beta_session_event, session_event
from stt.serve.socket_audio import AudioFormat
from stt.serve.turns import Endpointing

IDENTITY = {"id": "sess_1", "expires_at": 5}


def ask(config: SessionConfig = SessionConfig(), *, language=None, **audio_input) -> SessionConfig:  # noqa: B008
    session = {"type": "transcription", "audio": {"input": audio_input}}
    return updated(config, session, beta=False, language=language)


def ask_beta(**session) -> SessionConfig:
    return updated(SessionConfig(), session, beta=True, language=None)


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ({"type": "audio/pcm", "rate": 24_000}, AudioFormat()),
        ({"type": "audio/pcm"}, AudioFormat()),
        ({"type": "audio/pcm", "rate": 16_000}, AudioFormat("pcm", 16_000)),
        ({"type": "audio/pcmu"}, AudioFormat("pcmu", 8000)),
        ({"type": "audio/pcma", "rate": 8000}, AudioFormat("pcma", 8000)),
    ],
)
def test_formats(asked, form) -> None:
    assert ask(format=asked).form == form


def test_the_older_dialect_says_the_same() -> None:
    turns = {"type": "server_vad", "threshold": 0.7, "silence_duration_ms": 500}
    model = {"model": "gpt-4o-transcribe", "prompt": "names"}
    old = ask_beta(
        input_audio_format="g711_alaw", input_audio_transcription=model, turn_detection=turns
    )
    new = ask(format={"type": "audio/pcma"}, transcription=model, turn_detection=turns)
    assert old == new
    assert old.ignored == ("transcription.prompt",)


def test_only_what_is_given_changes() -> None:
    config = ask(format={"type": "audio/pcmu"}, turn_detection=None)
    config = ask(config, transcription={"model": "x"})
    assert config.form.encoding == "pcmu"
    assert config.ends == Endpointing(by_client=True)
    config = ask(config, turn_detection={"type": "server_vad", "silence_duration_ms": 700})
    assert config.ends == Endpointing(patience_s=0.7)
    assert config.transcription == {"model": "x"}


@pytest.mark.parametrize(
    ("asked", "by_client"),
    [("whisper-1", False), ("gpt-realtime-whisper", True), ("gpt-live-transcribe", True)],
)
def test_models_that_find_no_end_of_speech_are_committed_to_by_their_clients(
    asked, by_client
) -> None:
    config = ask(transcription={"model": asked})
    assert config.ends.by_client == by_client
    assert not ask(config, turn_detection={"type": "server_vad"}).ends.by_client


def test_what_cannot_be_done_is_named_and_what_is_done_instead_is_told() -> None:
    config = ask(
        transcription={"model": "x", "language": "de", "prompt": "p", "keywords": []},
        noise_reduction={"type": "near_field"},
        turn_detection={
            "type": "semantic_vad",
            "eagerness": "low",
            "prefix_padding_ms": 300,
            "silence_duration_ms": 100,
        },
    )
    assert set(config.ignored) == {
        "noise_reduction",
        "transcription.language",
        "transcription.prompt",
        "turn_detection.eagerness",
        "turn_detection.prefix_padding_ms",
        "turn_detection.type",
    }
    told = session_event("updated", IDENTITY, config, None)["session"]
    assert told["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 608,
        "silence_duration_ms": 352,
    }
    assert told["stt"]["ignored"] == list(config.ignored)
    later = ask(config, noise_reduction=None, turn_detection=None)
    assert set(later.ignored) == {"transcription.language", "transcription.prompt"}


@pytest.mark.parametrize(("language", "ignored"), [("en", ()), (None, ("transcription.language",))])
def test_a_language_is_honoured_where_the_model_knows_no_other(language, ignored) -> None:
    config = ask(transcription={"language": "en-US"}, language=language)
    assert config.ignored == ignored


@pytest.mark.parametrize(
    ("session", "param"),
    [
        (None, "session"),
        ([], "session"),
        ({"type": "realtime"}, "session.type"),
        ({"audio": 5}, "session.audio"),
        ({"audio": {"input": {"format": {"type": "mp3"}}}}, "session.audio.input.format.type"),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 96_000}}}},
            "session.audio.input.format.rate",
        ),
        (
            {"audio": {"input": {"format": {"type": "audio/pcmu", "rate": 16_000}}}},
            "session.audio.input.format.rate",
        ),
        (
            {"audio": {"input": {"turn_detection": {"threshold": "loud"}}}},
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {"audio": {"input": {"turn_detection": {"threshold": float("nan")}}}},
            "session.audio.input.turn_detection.threshold",
        ),
        ({"include": "all"}, "session.include"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(session, param) -> None:
    with pytest.raises(BadEvent) as caught:
        updated(SessionConfig(), session, beta=False, language=None)
    assert caught.value.param == param


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "audio", "input", "format", "rate", "turn_detection", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(ANYTHING, st.booleans())
def test_any_session_is_a_configuration_or_told(session, beta) -> None:
    try:
        config = updated(SessionConfig(), session, beta=beta, language=None)
    except BadEvent as error:
        assert str(error)
    else:
        assert config.form.rate in range(8000, 48_001)


@pytest.mark.parametrize("turns", [None, {"type": "server_vad", "threshold": 0.5}])
def test_sessions_are_what_the_clients_types_say(turns) -> None:
    config = ask(turn_detection=turns, transcription={"model": "whisper-1"})
    told = session_event("created", IDENTITY, config, None) | {"event_id": "1"}
    types.SessionCreatedEvent.model_validate(told, strict=True)
    types.realtime_transcription_session_create_response.RealtimeTranscriptionSessionCreateResponse.model_validate(
        told["session"], strict=True
    )
    told = beta_session_event("updated", IDENTITY, config, None) | {"event_id": "1"}
    told["session"]["client_secret"] = {"value": "", "expires_at": 0}  # only over REST
    beta_types.TranscriptionSessionUpdatedEvent.model_validate(told, strict=True)
