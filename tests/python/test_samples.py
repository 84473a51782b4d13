# SPDX-License-Identifier: Apache-2.0
"""What push takes, and what it refuses."""

import numpy as np
import pytest
from numpy.typing import ArrayLike, DTypeLike

from ssmd._core import ssmd_pb2 as pb
from ssmd._core.samples import encode


def _bytes(values: ArrayLike, channels: int = 1, vocab: int | None = None) -> tuple[int, int, bytes]:
    samples = encode(values, channels, vocab, None, False)
    return samples.format, samples.frames, samples.take(samples.frames)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">f8"])
def encode__floats__are_rounded_to_float32(dtype: DTypeLike) -> None:
    values = np.array([0.1, -2.5, 3e-9], dtype)
    assert _bytes(values) == (pb.F32LE, 3, values.astype("<f4").tobytes())


def encode__pcm__is_sent_as_it_is() -> None:
    assert _bytes(np.array([1, -2], np.int16)) == (pb.S16LE, 2, b"\1\0\xfe\xff")
    assert _bytes(np.array([1], ">i4")) == (pb.S32LE, 1, b"\1\0\0\0")


def encode__list__is_numbers_and_not_pcm() -> None:
    assert _bytes([1, 2]) == (pb.F32LE, 2, np.array([1, 2], "<f4").tobytes())
    assert _bytes([[1.0, 2.0], [3.0, 4.5]], 2) == (pb.F32LE, 2, np.array([1, 2, 3, 4.5], "<f4").tobytes())
    assert _bytes([]) == (pb.F32LE, 0, b"")


def encode__strided__is_sent_in_order() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 6).T
    assert _bytes(values, 2) == (pb.F32LE, 6, values.tobytes())
    assert _bytes(values[::2, :1]) == (pb.F32LE, 3, np.array([0, 2, 4], "<f4").tobytes())


def encode__tokens__are_any_integers_of_the_vocabulary() -> None:
    assert _bytes(np.array([0, 9], np.uint8), 1, 10) == (pb.I32LE, 2, b"\0\0\0\0\x09\0\0\0")
    assert _bytes([], 1, 10) == (pb.I32LE, 0, b"")


@pytest.mark.parametrize("values", [[0, 10], [-1], [2**40]])
def encode__token_outside_the_vocabulary__is_refused(values: list[int]) -> None:
    with pytest.raises(ValueError, match="0 to 9"):
        _bytes(values, 1, 10)


def encode__floats_as_tokens__are_refused() -> None:
    with pytest.raises(TypeError, match="tokens"):
        _bytes([0.5], 1, 10)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint16, np.complex64, np.bool_, "U1"])
def encode__type_without_a_full_scale__is_refused(dtype: DTypeLike) -> None:
    with pytest.raises(TypeError, match="samples of type"):
        _bytes(np.zeros(3, dtype))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def encode__not_finite_as_float32__names_the_frame(bad: float) -> None:
    values = np.zeros((5, 2))
    values[3, 1] = bad
    with pytest.raises(ValueError, match="frame 3 of 5"):
        _bytes(values, 2)


@pytest.mark.parametrize(("shape", "channels"), [((), 1), ((4,), 2), ((4, 2), 1), ((4, 1), 2), ((2, 2, 1), 2)])
def encode__other_shape__is_refused(shape: tuple[int, ...], channels: int) -> None:
    with pytest.raises(ValueError, match="the stream takes"):
        _bytes(np.zeros(shape, np.float32), channels)


def encode__time_beyond_64_bits__is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encode([0.0], 1, None, 2**63, False)
