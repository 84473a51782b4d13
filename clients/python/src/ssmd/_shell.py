# SPDX-License-Identifier: Apache-2.0
"""What both shells have in common: arguments as messages, and what is known of a stream without asking."""

from __future__ import annotations

import os
from collections.abc import Sequence

from numpy.typing import ArrayLike

from ._core import ssmd_pb2 as pb
from ._core.link import Core
from ._core.samples import Samples, encode
from ._core.writer import Writer
from ._endpoint import default_endpoint
from .values import Ending, Image, StreamInfo, id_bytes

BUFFER = 1 << 20  # bytes of results kept here for each stream before the daemon has to wait
TIMEOUT = 30.0  # seconds for a question's answer
RECENT_MAX = 1024  # tokens for the repetition penalty


def new_core(endpoint: str | None, name: str, writer: bytes | None) -> Core:
    """A connection that has not begun."""
    if writer is not None and len(writer) != 16:
        raise ValueError("a writer's identity has 16 bytes")
    return Core(endpoint or default_endpoint(), name, writer or os.urandom(16))


def open_message(
    id: str | bytes,
    model: str,
    rate: float | None,
    channels: int | None,
    resume: bool | None,
    take_over: bool,
    results: bool,
    results_from: int | None,
    top_k: int | None = None,
    generates: bool = False,
    history: tuple[int, int] | None = None,
    deadline_class: str | None = None,
    native_rate: bool = False,
) -> pb.Open:
    """The request of `open`."""
    mode = pb.ANY if resume is None else pb.RESUME if resume else pb.CREATE
    message = pb.Open(id=id_bytes(id), model=model, mode=mode, take_over=take_over, results=results)
    if rate is not None:
        message.rate = rate
    if native_rate:
        message.native_rate = True
    if channels is not None:
        message.channels = channels
    if results_from is not None:
        message.results_from = results_from
    if top_k is not None:
        message.top_k = top_k
    if generates:
        message.generates = True
    if history is not None:
        message.history.interval, message.history.depth = history
    if deadline_class is not None:
        setattr(message, "class", deadline_class)  # a word of the language
    return message


def generate_message(
    maximum: int,
    stop: list[int],
    recent: Sequence[int],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    repetition_window: int,
    seed: int,
) -> pb.Generate:
    """The request of `generate`, without the prompt."""
    return pb.Generate(
        maximum=maximum,
        stop=stop,
        recent=recent[-RECENT_MAX:],
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        repetition_window=repetition_window,
        seed=seed,
    )


def resume_message(info: StreamInfo, results: bool) -> pb.Open:
    """The request that opens a stream which was just made of a state."""
    form = (info.top_k or None, info.generates)
    return open_message(info.id, info.model, None, None, True, False, results, None, *form)


def image_bytes(image: Image | bytes) -> bytes:
    """Of an image, however it is given."""
    return image.data if isinstance(image, Image) else bytes(image)


def read_message(id: str | bytes | None, prefix: str | bytes | None, from_: int | None) -> pb.Read:
    """The request of `read`."""
    one_of(id, prefix)
    message = pb.Read(id=id_bytes(id)) if id is not None else pb.Read(prefix=id_bytes(prefix or b""))
    if from_ is not None:
        setattr(message, "from", from_)
    return message


def one_of(id: str | bytes | None, prefix: str | bytes | None) -> None:
    """Either an id or a prefix is given."""
    if (id is None) == (prefix is None):
        raise TypeError("either an id or a prefix")


class StreamFacts:
    """What is known here of a stream, without asking the daemon."""

    _writer: Writer

    @property
    def id(self) -> str:
        """The stream's name at the daemon."""
        return self._writer.info.id

    @property
    def model(self) -> str:
        """The model's name, with every parameter filled in."""
        return self._writer.info.model

    @property
    def created(self) -> bool:
        """`open` made the stream; otherwise it was there, and `next` says where to go on."""
        return self._writer.info.created

    @property
    def next(self) -> int:
        """Index of the next frame to push."""
        return self._writer.kept.next

    @property
    def applied(self) -> int:
        """Frames below are in the daemon's state."""
        return self._writer.applied

    @property
    def epoch(self) -> int:
        """Rises at reset, rollback and take-over."""
        return self._writer.epoch

    @property
    def rate(self) -> float:
        """Frames for each second of input."""
        return self._writer.info.rate

    @property
    def channels(self) -> int:
        """Samples of an input frame."""
        return self._writer.info.channels

    @property
    def out_rate(self) -> float:
        """Frames for each second of results."""
        return self._writer.info.out_rate

    @property
    def out_channels(self) -> int:
        """Values of a result frame."""
        return self._writer.info.out_channels

    @property
    def ending(self) -> Ending | None:
        """Why the last generation ended."""
        return self._writer.generation.ending if self._writer.generation else None

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {self.id!r} model={self.model!r} next={self.next}>"

    def _samples(self, values: ArrayLike, time: int | None, backfill: bool) -> Samples:
        info = self._writer.info
        return encode(values, info.channels, info.vocab if info.tokens else None, time, backfill)
