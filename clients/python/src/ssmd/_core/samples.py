# SPDX-License-Identifier: Apache-2.0
"""From what the caller has to the bytes of the wire.

    float32, float64, float16   samples; rounded to float32, which is all that a model takes
    int16, int32                PCM: divided by 2^15 or 2^31 by the daemon
    a list                      numbers, as float32
    any integers                tokens, for a model of tokens

Other integer types are refused, because nobody can know what their full scale is. What the daemon would refuse
(values that are not finite, tokens outside of the vocabulary) is refused here, before the stream has to suffer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import ssmd_pb2 as pb

PCM = {2: pb.S16LE, 4: pb.S32LE}  # by bytes


@dataclass(slots=True)
class Samples:
    """Frames to be pushed, from `at` on."""

    data: memoryview
    frames: int
    frame_bytes: int
    format: int
    time: int | None
    backfill: bool
    at: int = 0

    @property
    def left(self) -> int:
        """Frames that were not taken yet."""
        return self.frames - self.at

    def take(self, n: int) -> bytes:
        """A copy of the next n frames."""
        begin, self.at = self.at, self.at + n
        return bytes(self.data[begin * self.frame_bytes : self.at * self.frame_bytes])


def encode(values: ArrayLike, channels: int, vocab: int | None, time: int | None, backfill: bool) -> Samples:
    """(frames, channels), or (frames) of one channel; `vocab` is None where samples are wanted and not tokens."""
    array = np.asarray(values)
    if (
        array.ndim == 0
        or array.ndim > 2
        or (array.ndim == 1 and channels != 1)
        or array.shape[1:] not in ((), (channels,))
    ):
        raise ValueError(f"an array of shape {array.shape}: the stream takes (frames, {channels})")
    if time is not None and not -(2**63) <= time < 2**63:
        raise ValueError(f"time {time} does not fit 64 bits")
    if vocab is not None:
        array, format = _tokens(array, vocab), pb.I32LE
    elif array.dtype.kind == "i" and array.dtype.itemsize in PCM and not isinstance(values, list | tuple):
        format = PCM[array.dtype.itemsize]
    else:
        array, format = _floats(array, isinstance(values, list | tuple)), pb.F32LE
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    frame_bytes = channels * little.dtype.itemsize
    return Samples(little.reshape(-1).view(np.uint8).data, len(array), frame_bytes, format, time, backfill)


def _floats(array: NDArray[np.generic], is_list: bool) -> NDArray[np.generic]:
    if not (np.issubdtype(array.dtype, np.floating) or (is_list and np.issubdtype(array.dtype, np.number))):
        raise TypeError(
            f"samples of type {array.dtype}: push floating point, or PCM as int16 or int32 (divided by 2^15, 2^31)"
        )
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32, copy=False)
    if not np.isfinite(floats).all():
        frame = int(np.argmin(np.isfinite(floats.reshape(len(floats), -1)).all(axis=1)))
        raise ValueError(f"frame {frame} of {len(floats)} is not finite, as float32")
    return floats


def _tokens(array: NDArray[np.generic], vocab: int) -> NDArray[np.generic]:
    if array.size > 0 and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"samples of type {array.dtype}: the model takes tokens, integers from 0 to {vocab - 1}")
    if array.size > 0 and not 0 <= int(array.min()) <= int(array.max()) < vocab:
        raise ValueError(f"tokens from {array.min()} to {array.max()}: the model has 0 to {vocab - 1}")
    return array.astype(np.int32)
