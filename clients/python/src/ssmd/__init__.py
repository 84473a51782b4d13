# SPDX-License-Identifier: Apache-2.0
"""Streams of samples to an ssmd daemon, results back.

    import numpy as np
    import ssmd

    with ssmd.connect() as client, client.open("ecg", "forecast", rate=360) as stream:
        for result in stream.pipe(np.array_split(samples, 100)):
            print(result.first, result.values)  # (frames, 3): prediction, error, score

For live data, push in one thread and iterate the stream in another, or use `ssmd.aio`, which has the same names for
asyncio. The client does what a careful one must: it keeps every frame until the daemon has applied it, sends no more
than the daemon's windows allow, grants credit as results are taken, and resumes after a broken connection without loss.
What crosses the wire is proto/PROTOCOL.md.
"""

from . import aio
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
from .values import Counter, DaemonInfo, History, Image, ModelInfo, Result, StreamInfo

__all__ = [
    "Client",
    "Closed",
    "Code",
    "Counter",
    "DaemonInfo",
    "Error",
    "History",
    "Image",
    "Lost",
    "ModelInfo",
    "ProtocolError",
    "Reader",
    "Refused",
    "Result",
    "ResultsWaiting",
    "Stream",
    "StreamInfo",
    "TakenOver",
    "Timeout",
    "Unreachable",
    "Watch",
    "aio",
    "connect",
]
