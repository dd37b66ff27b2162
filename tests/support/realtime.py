"""A client of realtime sessions that says what it is told to, and keeps what it hears."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import soundfile
import soxr
import websockets
from openai.types import realtime as types
from openai.types.beta import realtime as beta_types
from pydantic import TypeAdapter

from stt.types import Samples
from support.paths import CLIPS
from support.serving import Running

Event = dict[str, Any]
_GA: TypeAdapter[Any] = TypeAdapter(types.RealtimeServerEvent)
_BETA: TypeAdapter[Any] = TypeAdapter(beta_types.RealtimeServerEvent)
DELTA, COMPLETED, FAILED = (
    f"conversation.item.input_audio_transcription.{name}"
    for name in ("delta", "completed", "failed")
)
COMMITTED = "input_audio_buffer.committed"


class Talker:
    """One connection."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.heard: list[Event] = []

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def configure(self, include: tuple[str, ...] = (), **audio_input: Any) -> Event:
        session = {"type": "transcription", "audio": {"input": audio_input}}
        await self.say("session.update", session=session | {"include": list(include)})
        return (await self.until("session.updated"))["session"]

    async def append(
        self, samples: Samples, rate: int = 24_000, piece_s: float = 0.1, pause_s: float = 0.0
    ) -> None:
        """Send float32 [n] at 16 kHz as PCM at `rate`."""
        data, size = pcm(samples, rate), 2 * round(piece_s * rate)
        for start in range(0, len(data), size):
            await self.append_bytes(data[start : start + size])
            await asyncio.sleep(pause_s)

    async def append_bytes(self, data: bytes) -> None:
        await self.say("input_audio_buffer.append", audio=base64.b64encode(data).decode())

    async def commit(self) -> None:
        await self.say("input_audio_buffer.commit")

    async def until(self, kind: str, count: int = 1) -> Event:
        """Listen until so many more events of this kind have come; returns the last."""
        while True:
            event = json.loads(await asyncio.wait_for(self.socket.recv(), 30))
            self.heard.append(event)
            count -= event["type"] == kind
            if not count:
                return event

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.heard if event["type"] == kind]

    def assert_typed(self, *, beta: bool = False) -> None:
        """Everything heard is of the client's types, to the letter, but for what is ours."""
        adapter = _BETA if beta else _GA
        for event in self.heard:
            own = event["type"].startswith("stt.")
            if not own and event["type"] != "transcription_session.created":  # has no type
                told = copy.deepcopy(event)
                _leave_ours_out(told.get("session", {}), beta=beta)
                adapter.validate_python(told, strict=True)

    @property
    def texts(self) -> list[str]:
        """Transcripts of what is completed; each is what the deltas of its item were."""
        told = self.of(COMPLETED)
        for event in told:
            deltas = [one["delta"] for one in self.of(DELTA) if one["item_id"] == event["item_id"]]
            assert "".join(deltas) == event["transcript"]
        return [event["transcript"] for event in told]


def _leave_ours_out(session: Event, *, beta: bool) -> None:
    if beta:
        session["client_secret"] = {"value": "", "expires_at": 0}  # comes over REST alone
        return
    form = session.get("audio", {}).get("input", {}).get("format", {})
    if "rate" in form:
        form["rate"] = 24_000
    theirs = [name for name in session.get("include") or [] if not name.startswith("stt.")]
    session["include"] = theirs or None


@asynccontextmanager
async def talking(
    server: Running, query: str = "?intent=transcription", **options: Any
) -> AsyncIterator[Talker]:
    """Connect; `options` are those of websockets.connect."""
    url = f"{server.socket_url}/v1/realtime{query}"
    async with websockets.connect(url, proxy=None, max_queue=None, **options) as socket:
        yield Talker(socket)


def pcm(samples: Samples, rate: int) -> bytes:
    """16-bit PCM at `rate` of float32 [n] at 16 kHz."""
    values = np.clip(soxr.resample(samples, 16_000, rate), -1, 1)
    return (values * 32_767).astype("<i2").tobytes()


def clip(name: str) -> Samples:
    samples, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, np.float32)


def room(seconds: float) -> Samples:
    noise = np.random.default_rng(1).normal(0, 1e-4, round(seconds * 16_000))
    return noise.astype(np.float32)


def said(*names: str, apart_s: float = 1.2) -> Samples:
    """Clips, silence behind each."""
    return np.concatenate([part for name in names for part in (clip(name), room(apart_s))])
