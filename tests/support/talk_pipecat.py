"""A program that has pipecat's service hear a WAV file: `python talk_pipecat.py URL WAV WHO`.

WHO ends turns: `server`, or `client`, which is told by its own VAD where the file ends. Prints each
text on a line. Runs in an environment that has pipecat-ai[openai].
"""

from __future__ import annotations

import asyncio
import sys
import wave

from pipecat.frames.frames import (
    InputAudioRawFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.worker import PipelineParams
from pipecat.services.openai.stt import OpenAIRealtimeSTTService
from pipecat.tests.utils import SleepFrame, run_test


async def main(url: str, path: str, who: str) -> None:
    with wave.open(path) as file:
        rate, data = file.getframerate(), file.readframes(file.getnframes())
    hears = OpenAIRealtimeSTTService(
        api_key="secret",
        base_url=f"{url.replace('http', 'ws', 1)}/v1/realtime",
        turn_detection={"type": "server_vad"} if who == "server" else False,
    )
    size = 2 * rate // 50
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    frames = [SleepFrame(0.5), VADUserStartedSpeakingFrame()]
    for piece in pieces:
        frames += [InputAudioRawFrame(piece, rate, 1), SleepFrame(0.01)]
    frames += [VADUserStoppedSpeakingFrame(), SleepFrame(2)]
    down, _ = await run_test(
        hears,
        frames_to_send=frames,
        pipeline_params=PipelineParams(audio_in_sample_rate=rate),
    )
    for frame in down:
        if isinstance(frame, TranscriptionFrame):
            sys.stdout.write(frame.text + "\n")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:4]), 60))
