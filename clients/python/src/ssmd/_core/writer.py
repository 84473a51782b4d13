# SPDX-License-Identifier: Apache-2.0
"""A stream that is written here: push, results, reset, rollback, close, and what becomes of it when the link breaks.

What the daemon answers to the second opening decides what happens to the frames kept here:
    next within what is kept    they are sent again from there, as they were
    next below it, or the stream is not there    the daemon lost state: Lost, which says where to begin again
    next beyond what was pushed, or the stream is another writer's    TakenOver

Close, Reset and Rollback go out only when every frame is applied. So a broken connection never leaves the question
whether the tail went in before them, and each may simply be asked again.

A push is cut into pieces on a grid of indices that depends on nothing but the daemon's limits, so that what is marked
as backfill takes the same bits however full the windows were.
"""

from __future__ import annotations

from ..errors import Closed, Code, Error, Lost, ProtocolError, Refused, ResultsWaiting, TakenOver
from ..values import Result, id_text, stream_info
from . import ssmd_pb2 as pb
from .generation import GRID, Generation
from .inbox import Inbox, Owner
from .kept import Chunk, Kept
from .link import HEADER_BYTES, Call, Core, Surprise, refusal
from .samples import Samples
from .signal import Operation


def open_writer(core: Core, open: pb.Open, buffer: int) -> Operation[Writer]:
    """Open a stream, or resume it."""

    def opened(reply: pb.Reply) -> Writer:
        return Writer(core, open, reply.stream, buffer)

    reconnects = core.reconnects
    try:
        return (yield from core.ask(pb.FromClient(open=open), "stream", opened))
    except Refused as refused:
        if refused.code == Code.OWNED:
            raise TakenOver(str(refused), refused.code) from None
        if refused.code != Code.EXISTS or core.reconnects == reconnects:
            raise
    # The first one may have made it before the link broke; RESUME without take-over finds only our own.
    open.mode = pb.RESUME
    return (yield from core.ask(pb.FromClient(open=open), "stream", opened))


class Writer(Owner):
    """The stream."""

    def __init__(self, core: Core, open: pb.Open, m: pb.StreamInfo, buffer: int) -> None:
        super().__init__(core)
        self.open = open
        self.info = stream_info(m)
        self.epoch = m.epoch
        self.applied = 0
        self.kept = Kept()
        self.inbox = Inbox(core, self, m.id, m.out_channels, buffer)
        self.error: Error | None = None  # it can do no more
        self.is_closing = self.is_closed = self.is_given_up = False
        self.taker: object = None  # who iterates
        self.generation: Generation | None = None  # that runs, or was the last
        self._incarnation = core.daemon.incarnation
        self._is_same = True  # the daemon of the last opening and of the one before
        self._close_sent = self._close_answered = False
        self._results_end: int | None = None  # of a closed stream
        self._is_resetting = self._is_moving = False  # moving: a reset, with the newest version of the model
        self._back_to: int | None = None  # of a rollback
        self._control_error: Error | None = None
        self._control_call: Call | None = None
        self._held_index = 0
        core.writers.add(self)
        self.restart_input(m.applied, m.next)
        self.inbox.begin(m.epoch, m.results_from if m.HasField("results_from") else m.result_next)
        self.inbox.attach(m.handle)

    @property
    def name(self) -> str:
        """For sentences."""
        return f"stream {id_text(self.inbox.id)}"

    @property
    def frame_window(self) -> int:
        """Bytes of the daemon's window that a frame takes, whatever its format."""
        return self.info.channels * 4

    def check(self) -> None:
        """Raise when the stream can do no more."""
        self.core.check()
        if self.error:
            raise self.error.with_traceback(None)
        if self.is_given_up:
            raise Closed(f"{self.name} was given up here")

    # ---- input

    def push(self, samples: Samples, caller: object) -> Operation[None]:
        """Until all are on their way."""
        while True:
            self.push_room(samples)
            if samples.left == 0:
                return
            if self._waits_for(caller):
                raise ResultsWaiting(
                    f"{self.name}: its results fill what may be kept of them, take some before you push more "
                    f"(frames below {self.kept.next} were pushed)"
                )
            yield self.signal

    def exchange(self, samples: Samples, caller: object) -> Operation[Result | None]:
        """Push what there is room for, or take results if there are any; None when all is pushed and none has come."""
        self.taker = caller
        while True:
            self.push_room(samples)
            if result := self.inbox.take():
                return result
            if samples.left == 0:
                return None
            yield self.signal

    def push_room(self, samples: Samples) -> None:
        """Push what there is room for. What finds none is woken by an acknowledgement, its own or another stream's."""
        self.check()
        if self.is_closing or self._is_changing:
            doing = "closing" if self.is_closing else "being reset or goes back"
            raise Closed(f"{self.name} takes no input: it is {doing}")
        if self.generation and self.generation.runs:
            raise Closed(f"{self.name} takes no input: it is generating")
        while samples.left > 0:
            frames = min(samples.left, self._piece(samples.frame_bytes))
            own = self.core.daemon.stream_window - (self.kept.next - self.applied) * self.frame_window
            room = min(own, self.core.daemon.connection_window - self.core.in_flight)
            if frames * self.frame_window > room:
                self.core.crowded.add(self)
                return
            data = samples.take(frames)
            self.kept.push(Chunk(self.kept.next, frames, samples.format, samples.backfill, samples.time, data))
            self.core.in_flight += frames * self.frame_window
            self._mark_dirty()

    def _piece(self, frame_bytes: int) -> int:
        """Frames from here to where the next chunk has to begin."""
        limits = self.core.daemon
        window = min(limits.stream_window, limits.connection_window) // self.frame_window
        if window == 0:
            raise ValueError(f"{self.name}: the daemon's window is smaller than one frame")
        most = max(1, min(limits.chunk_frames, (limits.message_bytes - HEADER_BYTES) // frame_bytes, window // 2))
        grid = most // GRID * GRID or most
        return grid - self.kept.next % grid

    def _waits_for(self, caller: object) -> bool:
        return self.inbox.is_full and self.taker in (None, caller)

    def _mark_dirty(self) -> None:
        if self.inbox.handle is not None and self.kept.unsent:
            self.core.dirty[self] = None

    def restart_input(self, applied: int, index: int) -> None:
        """Nothing is kept, input goes on at `index`; frames from `applied` on are queued at the daemon."""
        self.core.held.discard(self)
        self.core.in_flight -= (self.kept.next - self.applied) * self.frame_window
        self.kept.restart(index)
        self.applied = min(applied, index)
        self.core.in_flight += (index - self.applied) * self.frame_window
        self.core.uncrowd()

    def retry_held(self) -> None:
        """The daemon says only once that it has no room, so ask again until frames are taken."""
        if self.kept.rewind(self._held_index):
            self._mark_dirty()

    # ---- what the daemon says

    def acknowledge(self, epoch: int, applied: int, durable: int) -> None:
        """Frames below are in the state, or would survive the daemon."""
        if epoch != self.epoch:
            return
        if applied > self.kept.next and self.generation and self.generation.is_taken and self.generation.runs:
            self.restart_input(applied, applied)
            self.signal.fire()
        if applied > self.kept.next:
            raise Surprise("the daemon acknowledged frames that were never sent")
        if applied > self.applied:
            self.core.in_flight -= (applied - self.applied) * self.frame_window
            self.applied = applied
            if applied > self._held_index:
                self.core.held.discard(self)
            self._mark_dirty()
            self.signal.fire()
            self.core.uncrowd()
            self.pursue()
        self.kept.release(min(durable, applied))

    def refused(self, refused: pb.Refusal) -> None:
        """A gap is cured by sending again from where the daemon stands, want of room by waiting a little."""
        code = Code(refused.error.code)
        if code in (Code.GAP, Code.OVERFLOW, Code.LIMIT, Code.BUSY):
            if not self.kept.rewind(refused.expected):
                self._lose(refused.expected)
            elif code == Code.GAP:
                self._mark_dirty()
            else:
                self._held_index = refused.expected
                self.core.hold(self)
        elif code in (Code.BAD_HANDLE, Code.STALE_EPOCH, Code.NO_STREAM):
            self.inbox.detach()
            self.lose_link()
            self.core.reopen[self] = None
        elif code != Code.DRAINING:  # the link ends soon, and what was not taken is sent on the next
            self.die(refusal(refused.error))

    def take_event(self, inbox: Inbox, event: pb.Event) -> None:
        """The handle died, or a generation ended."""
        if event.kind == pb.Event.TAKEN_OVER:
            self.die(TakenOver(f"{self.name}: another writer took it"))
        elif event.kind == pb.Event.GENERATED and event.epoch == self.epoch and self.generation:
            self.generation.take_state(self, event.generation)

    def die(self, error: Error) -> None:
        """From here on every call fails; results that came may still be taken."""
        if self.error:
            return
        self.error = error
        self.core.dirty.pop(self, None)
        self.core.writers.discard(self)
        self.restart_input(self.kept.next, self.kept.next)
        self.signal.fire()

    def _lose(self, expected: int, code: Code | None = None) -> None:
        text = (
            f"{self.name}: the daemon lost its state; open it again and send from frame {expected} "
            f"(kept here were {self.kept.first} to {self.kept.next})"
        )
        self.die(Lost(text, expected, code))

    # ---- results

    def take(self, caller: object) -> Operation[Result | None]:
        """The next results, or None after the last."""
        if not self.open.results:
            raise Closed(f"{self.name} was opened without results")
        self.taker = caller
        while True:
            result = self.inbox.take()
            if result or self.is_closed:
                return result
            self.check()
            yield self.signal

    # ---- reset and close

    def reset(self, caller: object) -> Operation[None]:
        """Until the daemon has begun anew at index 0."""
        yield from self._begin_anew(caller, False)

    def move(self, caller: object) -> Operation[None]:
        """Until it has done so with the newest version of the model, if there is one."""
        self.core.check_versions()
        yield from self._begin_anew(caller, True)

    def _begin_anew(self, caller: object, moves: bool) -> Operation[None]:
        self.check()
        if self.is_closing or (self._is_resetting and self._is_moving != moves):
            raise Closed(f"{self.name} is closing or begins anew")
        self._is_resetting, self._is_moving = True, moves
        self.pursue()
        yield from self._change(caller)

    def rollback(self, index: int, caller: object) -> Operation[None]:
        """Until the daemon has taken back the frames from `index` on."""
        self.check()
        self.core.check_images()
        if self.is_closing or self._is_resetting:
            raise Closed(f"{self.name} is closing or being reset")
        self._back_to = index
        self.pursue()
        yield from self._change(caller)

    @property
    def _is_changing(self) -> bool:
        return self._is_resetting or self._back_to is not None

    def _change(self, caller: object) -> Operation[None]:
        while self._is_changing:
            self.check()
            if self.applied < self.kept.next and self._waits_for(caller):
                self._is_resetting, self._back_to = False, None
                raise ResultsWaiting(f"{self.name}: take results first, they hold up what was pushed before")
            yield self.signal
        self._raise_control_error()

    def settle(self, caller: object) -> Operation[None]:
        """Until everything pushed is applied."""
        while self.applied < self.kept.next:
            self.check()
            if self._waits_for(caller):
                raise ResultsWaiting(f"{self.name}: take results first, they hold up what was pushed")
            yield self.signal
        self.check()

    def close(self, caller: object) -> Operation[None]:
        """Until every result is here, or until results must be taken so that it may go on."""
        if not self.is_closed:
            self.check()
            self.is_closing = True
            self.pursue()
        while not self.is_closed and not self._waits_for(caller):
            self._raise_control_error()
            self.check()
            yield self.signal

    def _raise_control_error(self) -> None:
        error, self._control_error = self._control_error, None
        if error:
            self.is_closing = False
            raise error

    def pursue(self) -> None:
        """Ask what is to be asked as soon as everything is applied."""
        is_wanted = (self.is_closing and not self._close_answered) or self._is_changing
        if self.inbox.handle is None or self.applied < self.kept.next:
            return
        if self.generation and self.generation.runs and not self.generation.is_taken and not self.generation.call:
            self.generation.ask(self)
        if not is_wanted or self._control_call:
            return
        handle = self.inbox.handle
        if self.is_closing:
            message, answer = pb.FromClient(close=pb.Close(handle=handle)), self._answer_close
            self._close_sent = True
        elif self._back_to is not None:
            rollback = pb.Rollback(handle=handle, index=self._back_to)
            message, answer = pb.FromClient(rollback=rollback), self._answer_change
        elif self._is_moving:
            message, answer = pb.FromClient(move=pb.Move(handle=handle)), self._answer_change
        else:
            message, answer = pb.FromClient(reset=pb.Reset(handle=handle)), self._answer_change
        self._control_call = Call(message, answer)
        self.core.send(self._control_call)

    def _answer_close(self, reply: pb.Reply | None) -> None:
        self._control_call = None
        if reply is None:
            return  # asked again on the next link
        if reply.HasField("error"):
            self._control_error = refusal(reply.error)
        else:
            self._close_answered = True
            self._results_end = reply.stream.result_next if self.open.results else self.inbox.next
            self._settle()
        self.signal.fire()

    def _answer_change(self, reply: pb.Reply | None) -> None:
        self._control_call = None
        if reply is None:
            return
        if reply.HasField("error"):
            self._control_error = refusal(reply.error)
        else:
            self._begin_epoch(reply.stream)
        self._is_resetting, self._back_to = False, None
        self.signal.fire()

    def _begin_epoch(self, m: pb.StreamInfo) -> None:
        index = 0 if self._back_to is None else min(self.inbox.next, m.result_next)
        self._is_resetting, self._back_to = False, None
        self.generation = None
        self.epoch = m.epoch
        self.restart_input(m.applied, m.next)
        if self.inbox.epoch < m.epoch:
            self.inbox.begin(m.epoch, index)

    def results_came(self, inbox: Inbox) -> None:
        """There is something to take, and perhaps it was the last."""
        self._settle()
        self.signal.fire()

    def _settle(self) -> None:
        """It is closed when the daemon has said so and every result has come."""
        if self._close_answered and self._results_end is not None and self.inbox.next >= self._results_end:
            self.is_closed = self.inbox.is_complete = True
            self.core.owe(self.inbox)
            self.core.writers.discard(self)

    def give_up(self) -> None:
        """Nothing more is wanted of it here; the daemon keeps it."""
        self.is_given_up = True
        self.core.dirty.pop(self, None)
        self.core.writers.discard(self)
        self.core.reopen.pop(self, None)
        self.restart_input(self.kept.next, self.kept.next)
        self.inbox.give_up()
        self.signal.fire()

    # ---- when the link broke

    @property
    def wants_reopen(self) -> bool:
        """It is not attached to the daemon and should be."""
        return self.inbox.handle is None and not (self.error or self.is_closed or self.is_given_up)

    def lose_link(self) -> None:
        """The handle is dead."""
        self.core.dirty.pop(self, None)
        self.core.held.discard(self)

    def ask_again(self) -> None:
        """Open it again, on a fresh link."""
        self._is_same = self.core.daemon.incarnation == self._incarnation
        self._incarnation = self.core.daemon.incarnation
        open = pb.Open()
        open.CopyFrom(self.open)
        open.mode = pb.RESUME
        open.ClearField("take_over")
        if open.results and self._back_to is None:
            open.results_from = self.inbox.next
        self.core.send(Call(pb.FromClient(open=open), self._answer_again))

    def _answer_again(self, reply: pb.Reply | None) -> None:
        if reply is None:
            return  # `restart` counts anew
        self.core.reopening -= 1
        if self.is_given_up:
            return
        if reply.HasField("error"):
            self._refused_again(reply.error)
        else:
            self._opened_again(reply.stream)

    def _opened_again(self, m: pb.StreamInfo) -> None:
        if self.generation and self._is_same and m.epoch == self.epoch:
            self.generation.reopened(self, m)
        if m.out_channels != self.inbox.channels or not m.HasField("handle"):
            self.die(ProtocolError(f"{self.name} is not what it was"))
        elif m.epoch != self.epoch and self._is_changing:
            self._begin_epoch(m)  # the reset or rollback was done, its answer was lost
        elif not self._is_same and self.core.daemon.durability == pb.HelloReply.NONE:
            self._lose(m.next)
        elif m.next > self.kept.next:
            self.die(TakenOver(f"{self.name} was written by somebody else, up to frame {m.next}"))
        else:
            self.epoch = m.epoch
            self.inbox.epoch = max(self.inbox.epoch, m.epoch)  # raised, but the index went on
            self.acknowledge(m.epoch, m.applied, m.durable)
            if not self.kept.rewind(m.next):
                self._lose(m.next)
            elif self.core.was_away:
                self.kept.mark_backfill()
        if self.error:
            return
        self.inbox.attach(m.handle)
        self._mark_dirty()
        self.pursue()
        self.signal.fire()

    def _refused_again(self, error: pb.Error) -> None:
        code = Code(error.code)
        is_gone = code in (Code.NO_STREAM, Code.CLOSED)
        if is_gone and self._close_sent and self._is_same and self.inbox.next >= self._results_of(self.kept.next):
            self._close_answered, self._results_end = True, self.inbox.next  # closed, and everything was received
            self._settle()
            self.signal.fire()
        elif is_gone:
            self._lose(0, code)
        elif code == Code.OWNED:
            self.die(TakenOver(f"{self.name}: {error.text}", code))
        elif code in (Code.DRAINING, Code.BUSY):
            raise Surprise(error.text)  # again after the back-off, on the next daemon perhaps
        else:
            self.die(refusal(error))

    def _results_of(self, frames: int) -> int:
        """How many a closed stream of so many frames has."""
        if not self.open.results:
            return 0
        return -(-frames * self.info.ratio_num // self.info.ratio_den)
