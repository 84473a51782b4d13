# SPDX-License-Identifier: Apache-2.0
"""Generation: the prompt goes to the daemon, drawn tokens come back as results.

A prompt longer than a request takes goes as backfill first, cut on the grid on which chunks show in no bit, and the
request goes out when all of it is applied. The request names the index at which the daemon stands: one that was taken
has moved that index, so it may be asked again after a broken link, and a reopened stream says that it generates.
While it does, acknowledgements run ahead of what was pushed here and take the input's index along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import Closed, Error, Refused
from ..values import Ending, Result, Token
from . import ssmd_pb2 as pb
from .link import Call, refusal
from .samples import encode
from .signal import Operation

if TYPE_CHECKING:
    from .writer import Writer

PROMPT_MAX = 1024  # tokens of a request; what is before goes as data
GRID = 64  # of a backfill's chunks (proto/PROTOCOL.md, Data)


class Generation:
    """One that is asked for, runs, or has ended."""

    def __init__(self, request: pb.Generate) -> None:
        self.request = request
        self.is_asked = False  # `request` says from where
        self.is_taken = False  # the daemon has it
        self.error: Refused | None = None  # it does not want it
        self.call: Call | None = None
        self.next: int | None = None  # behind the last result with a token, once it ended
        self.ending: Ending | None = None

    @property
    def first(self) -> int:
        """The result with the first token."""
        return self.request.first + max(0, len(self.request.prompt) - 1)

    @property
    def runs(self) -> bool:
        """The stream takes no input."""
        return not self.error and self.ending is None

    def take_state(self, writer: Writer, m: pb.Generation) -> None:
        """As an event or a reopened stream says."""
        if not self.is_taken or not m.HasField("ending") or m.first != self.first or not self.runs:
            return
        self.next, self.ending = m.next, Ending(m.ending)
        if m.next > writer.kept.next:
            writer.restart_input(writer.applied, m.next)
        writer.signal.fire()

    def reopened(self, writer: Writer, m: pb.StreamInfo) -> None:
        """If this is the one that the stream has, input stands where the daemon says."""
        if self.runs and self.is_asked and m.HasField("generation") and m.generation.first == self.first:
            self.is_taken = True
            writer.restart_input(m.applied, m.next)
            self.take_state(writer, m.generation)

    def ask(self, writer: Writer) -> None:
        """Everything pushed is applied: now."""
        self.request.handle = writer.inbox.handle or 0
        self.request.epoch = writer.epoch
        self.request.first = writer.kept.next
        self.is_asked = True

        def answer(reply: pb.Reply | None) -> None:
            self.call = None
            if reply is None or not self.runs:
                return  # asked again on the next link, or found there
            if reply.HasField("error"):
                self.error = refusal(reply.error)
            else:
                self.is_taken = True
                writer.restart_input(reply.stream.applied, reply.stream.next)
            writer.signal.fire()

        self.call = Call(pb.FromClient(generate=self.request), answer)
        writer.core.send(self.call)


def generate(
    writer: Writer, request: pb.Generate, prompt: NDArray[np.integer] | Sequence[int]
) -> Operation[Generation]:
    """Until the daemon has the prompt. Results that were not taken before are dropped."""
    _check(writer)
    tokens = encode(np.asarray(prompt, dtype=np.int64), 1, writer.info.vocab, None, True)
    end = writer.kept.next + tokens.frames
    head = (end - 1) // GRID * GRID - writer.kept.next if tokens.frames > PROMPT_MAX else 0
    data = encode(np.asarray(prompt[:head], dtype=np.int64), 1, writer.info.vocab, None, True)
    while True:
        writer.push_room(data)
        while writer.inbox.take():
            pass
        if data.left == 0 and writer.applied == writer.kept.next:
            break
        yield writer.signal
    request.prompt[:] = [int(token) for token in prompt[head:]]
    generation = writer.generation = Generation(request)
    writer.pursue()
    while not generation.is_taken:
        if generation.error:
            writer.generation = None
            raise generation.error
        writer.check()
        yield writer.signal
    return generation


def next_tokens(writer: Writer, generation: Generation, caller: object) -> Operation[list[Token]]:
    """Those that came; an empty list behind the last one."""
    writer.taker = caller
    while True:
        result = writer.inbox.take()
        if result and result.epoch == writer.epoch:
            if tokens := _tokens(result, generation.first):
                return tokens
            continue
        if generation.ending == Ending.FAILED:
            raise Error(f"{writer.name}: the model's logits are not finite")
        if generation.next is not None and writer.inbox.next >= generation.next:
            return []
        writer.check()
        if writer.generation is not generation:
            return []  # the stream was reset
        yield writer.signal


def cancel(writer: Writer, generation: Generation) -> Operation[None]:
    """Until it has ended, and its last results came; they are dropped."""
    answered: list[bool] = []

    def answer(reply: pb.Reply | None) -> None:
        sent.clear()
        if reply is not None:
            answered.append(True)
        writer.signal.fire()

    sent: list[bool] = []
    while writer.generation is generation and not (writer.error or writer.core.broken or writer.is_closing):
        if generation.next is not None and writer.inbox.next >= generation.next:
            return
        while writer.inbox.take():
            pass
        if generation.runs and not sent and not answered and writer.inbox.handle is not None:
            sent.append(True)
            writer.core.send(Call(pb.FromClient(cancel=pb.Cancel(handle=writer.inbox.handle)), answer))
        yield writer.signal


def _check(writer: Writer) -> None:
    writer.check()
    if not writer.open.generates or not writer.open.results:
        raise Closed(f"{writer.name} was not opened with generates=True, and with results")


def _tokens(result: Result, first: int) -> list[Token]:
    pairs = result.pairs
    drawn = pairs[:, 0]
    return [
        Token(int(drawn[i]["token"]), float(drawn[i]["logprob"]), result.first + int(i) + 1, pairs[i, 1:])
        for i in np.flatnonzero(drawn["token"] >= 0)
        if result.first + i >= first
    ]
