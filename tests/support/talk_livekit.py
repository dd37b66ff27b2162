"""A program that has livekit's plugin hear a WAV file: `python talk_livekit.py URL WAV MODEL N`.

Prints each of N final texts on a line. Runs in an environment that has livekit-plugins-openai.
"""

from __future__ import annotations

import asyncio
import sys
import wave

from livekit import rtc
from livekit.agents import stt
from livekit.agents.utils import http_context
from livekit.plugins import openai


async def main(url: str, path: str, model: str, texts: int) -> None:
    async with http_context.open():
        with wave.open(path) as file:
            rate, data = file.getframerate(), file.readframes(file.getnframes())
        hears = openai.STT(base_url=f"{url}/v1", api_key="secret", model=model, use_realtime=True)
        stream = hears.stream()
        size = 2 * rate // 50

        async def speak() -> None:
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                stream.push_frame(rtc.AudioFrame(piece, rate, 1, len(piece) // 2))
                await asyncio.sleep(0.02)

        speaking = asyncio.create_task(speak())
        async for event in stream:
            if event.type == stt.SpeechEventType.FINAL_TRANSCRIPT:
                sys.stdout.write(event.alternatives[0].text + "\n")
                texts -= 1
                if not texts:
                    break
        await speaking
        await stream.aclose()
        await hears.aclose()


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:4], int(sys.argv[4])), 60))
