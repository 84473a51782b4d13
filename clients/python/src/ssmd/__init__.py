# SPDX-License-Identifier: Apache-2.0
"""Streams of samples to an ssmd daemon, results back.

    import numpy as np
    import ssmd

    with ssmd.connect() as client, client.open("ecg", "forecast", rate=360) as stream:
        for result in stream.pipe(np.array_split(samples, 100)):
            print(result.first, result.values)  # (frames, 3): prediction, error, score

A language model goes on with a text, token by token:

    with client.open("story", "mamba-130m", generates=True, tokenizer="tokenizer.json") as stream:
        for token in stream.generate("Once upon a time", maximum=100, temperature=0.8, seed=1):
            print(token.text, end="", flush=True)

For live data, push in one thread and iterate the stream in another, or use `ssmd.aio`, which has the same names for
asyncio. The client does what a careful one must: it keeps every frame until the daemon has applied it, sends no more
than the daemon's windows allow, grants credit as results are taken, and resumes after a broken connection without loss.
What crosses the wire is proto/PROTOCOL.md.
"""

from . import aio
from ._publisher import Publisher
from ._sync import Client, Reader, Stream, Watch, connect
from .errors import (
    Closed,
    Code,
    Error,
    Lost,
    ProtocolError,
    Refused,
    ResultsWaiting,
    TakenOver,
    Timeout,
    Unreachable,
)
from .values import Counter, DaemonInfo, Ending, History, Image, ModelInfo, Reload, Result, StreamInfo, Token

__all__ = [
    "Client",
    "Closed",
    "Code",
    "Counter",
    "DaemonInfo",
    "Ending",
    "Error",
    "History",
    "Image",
    "Lost",
    "ModelInfo",
    "ProtocolError",
    "Publisher",
    "Reader",
    "Refused",
    "Reload",
    "Result",
    "ResultsWaiting",
    "Stream",
    "StreamInfo",
    "TakenOver",
    "Timeout",
    "Token",
    "Unreachable",
    "Watch",
    "aio",
    "connect",
]
