# SPDX-License-Identifier: Apache-2.0
"""Live data in one task, results in another: what is unusual in a recording, as it is being made.

    python3 forecast.py demo-out/ecg.wav           as fast as the daemon goes
    python3 forecast.py demo-out/ecg.wav --live    at the recording's own pace

Streams a 16-bit WAV file of one channel through the built-in forecaster, which learns to predict the signal and scores
how unusual its latest errors are, and prints the seconds in which the score is high. A recorder would push what its
device gives instead of what a file holds; the rest stays as it is.
"""

import argparse
import asyncio
import wave
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from ssmd import aio

SCORE = 2  # channel of the results, after prediction and error
UNUSUAL = 4.0


async def recorded(path: str, live: bool) -> AsyncIterator[NDArray[np.int16]]:
    """A tenth of a second at a time."""
    with wave.open(path) as file:
        frames = file.getframerate() // 10
        while data := file.readframes(frames):
            yield np.frombuffer(data, "<i2")
            if live:
                await asyncio.sleep(0.1)


async def main() -> None:
    """Stream it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recording")
    parser.add_argument("--live", action="store_true")
    arguments = parser.parse_args()
    with wave.open(arguments.recording) as file:
        rate = file.getframerate()
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            parser.error("one channel of 16 bits, please")

    results = 0
    unusual: set[int] = set()
    async with aio.connect() as client, client.open("example", "forecast", rate=rate, take_over=True) as stream:
        async for result in stream.pipe(recorded(arguments.recording, arguments.live)):
            results += len(result)
            (high,) = np.nonzero(result.values[:, SCORE] > UNUSUAL)
            for second in sorted({(result.first + int(i)) // rate for i in high} - unusual):
                print(f"second {second}: unusual")
                unusual.add(second)
    print(f"{results} results, {len(unusual)} unusual seconds")


if __name__ == "__main__":
    asyncio.run(main())
