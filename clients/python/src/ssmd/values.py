# SPDX-License-Identifier: Apache-2.0
"""What comes back: plain, immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ._core import ssmd_pb2 as pb

PAIR = np.dtype([("token", "<i4"), ("logprob", "<f4")])


class Ending(IntEnum):
    """Why a generation ended."""

    STOP_TOKEN = 0
    MAXIMUM = 1
    CANCELLED = 2
    STREAM_CLOSED = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Token:
    """A token that the daemon drew."""

    token: int
    logprob: float
    """Natural logarithm of the probability that the model gave it, before any option."""
    index: int
    """Its index in the stream."""
    top: NDArray[np.void]
    """The most probable tokens there, fields `token` and `logprob`; as many as `open` said by top_k."""
    text: str = ""
    """What it adds to the text, where the stream has a tokenizer; empty while a character is not complete."""


@dataclass(frozen=True, slots=True)
class Result:
    """Some results of one stream, one after another."""

    id: str
    epoch: int
    first: int
    """Output index of the first frame."""
    values: NDArray[np.float32]
    """(frames, channels); yours to keep and to change."""
    time: int | None = None
    """What was pushed with the samples that completed these results."""
    lost: int = 0
    """Results missing just before `first`: only readers and watchers may have any."""

    @property
    def pairs(self) -> NDArray[np.void]:
        """The values of a stream opened with top_k or generates: (frames, n), fields `token` and `logprob`.

        With generates the first of each frame is the token drawn from it, -1 where none was.
        """
        return self.values.view(PAIR)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Image:
    """The state of a stream as a value: `Client.restore` makes a stream of it."""

    data: bytes = field(repr=False)
    epoch: int
    index: int
    """Frames below are in it."""

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class History:
    """What a stream keeps so that it can go back."""

    interval: int
    """Frames between checkpoints."""
    depth: int
    """The last so many frames can be taken back."""
    bytes: int
    """What it costs the daemon."""
    oldest: int
    """The lowest index that rollback reaches now."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream as the daemon describes it (proto/ssmd.proto, StreamInfo)."""

    id: str
    model: str
    epoch: int
    next: int
    """Index of the next frame that the daemon will accept."""
    applied: int
    """Frames below are in the state."""
    durable: int
    """Frames below would survive the daemon."""
    result_first: int
    """Oldest result kept."""
    result_next: int
    """Index of the next result to be computed."""
    rate: float
    channels: int
    out_rate: float
    out_channels: int
    ratio_num: int
    ratio_den: int
    hop: int
    lookahead: int
    state_bytes: int
    created: bool
    tokens: bool
    vocab: int
    attached: bool
    closing: bool
    queued: int
    top_k: int
    generates: bool
    generating: bool
    history: History | None
    config_rate: float
    """Of the model's directory; another than `rate` when it was discretised anew."""
    modes_zeroed: int
    """Then: modes above half the rate, which contribute nothing."""
    version: int
    """Of the model, counted from 1; 0 for templates."""
    newest_version: int
    """That new streams get."""
    deadline_class: str
    """Of the daemon's configuration; empty: results are due one chunk's duration after it came."""
    deadline_misses: int
    """Live chunks whose results came later."""
    catch_up: float
    """Frames of backfill in a second, now or the last time there was some; 0: there was none."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that the daemon offers. Shapes are known of loaded ones."""

    name: str
    template: bool
    state: str
    streams: int
    tokens: bool
    rate: float
    channels: int
    out_rate: float
    out_channels: int
    vocab: int
    hop: int
    lookahead: int
    state_bytes: int
    config_rate: float
    """Another than `rate`: discretised anew for streams of that rate, beside the one at its own."""
    modes_zeroed: int
    version: int
    """Counted from 1; 0 for templates and what is not loaded."""
    newest_version: int
    weight_bytes: int
    priority: int
    """Its share of the engine when there is not enough, relative to the others'."""
    cost: float
    """Measured: seconds of the engine for one second of a stream; 0: not known."""
    load: float
    """The part of the engine's time that its live streams need."""
    deadline_misses: int
    queued_bytes: int
    """Input of its streams that is not applied."""


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of directories of models that were read again."""

    unchanged: int
    added: int
    """New versions."""
    failed: int
    """Their versions in memory stay."""
    failure: str
    """Why the last one failed."""


@dataclass(frozen=True, slots=True)
class Counter:
    """One of the daemon's counters."""

    name: str
    value: int
    help: str


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """The daemon at the other end, as it said in its answer to hello."""

    daemon: str
    incarnation: bytes
    """16 random bytes of this daemon process."""
    durability: int
    tap: str
    """Endpoint of the tap; empty when it is off."""
    message_bytes: int
    chunk_frames: int
    stream_window: int
    connection_window: int
    result_ring: int
    streams: int
    idle_ms: int
    features: tuple[str, ...]
    """That it granted."""
    models: tuple[ModelInfo, ...] = field(repr=False)


def id_bytes(id: str | bytes) -> bytes:
    """An id or a prefix as the wire has it."""
    return id if isinstance(id, bytes) else id.encode("utf-8", "surrogateescape")


def id_text(id: bytes) -> str:
    """And back; bytes that are not UTF-8 survive."""
    return id.decode("utf-8", "surrogateescape")


def history(m: pb.History) -> History:
    """From the wire."""
    return History(m.interval, m.depth, m.bytes, m.oldest)


def stream_info(m: pb.StreamInfo) -> StreamInfo:
    """From the wire."""
    return StreamInfo(
        id_text(m.id), m.model, m.epoch, m.next, m.applied, m.durable, m.result_first, m.result_next, m.rate,
        m.channels, m.out_rate, m.out_channels, m.ratio_num, m.ratio_den, m.hop, m.lookahead, m.state_bytes,
        m.created, m.tokens, m.vocab, m.attached, m.closing, m.queued, m.top_k, m.generates,
        m.HasField("generation") and not m.generation.HasField("ending"),
        history(m.history) if m.HasField("history") else None,
        m.config_rate if m.HasField("config_rate") else m.rate, m.modes_zeroed, m.version,
        m.newest_version if m.HasField("newest_version") else m.version,
        getattr(m, "class"), m.deadline_misses, m.catch_up,
    )  # fmt: skip


def model_info(m: pb.ModelInfo) -> ModelInfo:
    """From the wire."""
    return ModelInfo(
        m.name, m.template, m.state, m.streams, m.tokens, m.rate, m.channels, m.out_rate, m.out_channels, m.vocab,
        m.hop, m.lookahead, m.state_bytes, m.config_rate if m.HasField("config_rate") else m.rate, m.modes_zeroed,
        m.version, m.newest_version if m.HasField("newest_version") else m.version, m.weight_bytes,
        m.priority, m.cost, m.load, m.deadline_misses, m.queued_bytes,
    )  # fmt: skip


def daemon_info(m: pb.HelloReply) -> DaemonInfo:
    """From the wire."""
    limits = m.limits
    return DaemonInfo(
        m.daemon, m.incarnation, m.durability, m.tap, limits.message_bytes, limits.chunk_frames, limits.stream_window,
        limits.connection_window, limits.result_ring, limits.streams, limits.idle_ms,
        tuple(m.features), tuple(model_info(model) for model in m.models),
    )  # fmt: skip
