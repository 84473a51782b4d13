# SPDX-License-Identifier: Apache-2.0
"""The connection: hello, liveness, coming back; what goes out and what comes in.

DOWN -> CONNECTING (a socket is wanted) -> HELLO (said) -> UP. Whatever goes wrong (the socket drops, the daemon is
silent, it forgot us, it says what we do not understand) ends in `restart`: a fresh socket with nothing in its queues,
and every stream opened again from where the daemon says. One way back instead of many.

The shell keeps a socket while `attempt` is not None, a fresh one for each value, and gives it what `next_message`
returns when it can be written to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from ..errors import Closed, Code, Error, ProtocolError, Refused
from ..values import DaemonInfo, daemon_info
from . import ssmd_pb2 as pb
from .signal import Operation, Signal, T

if TYPE_CHECKING:
    from .inbox import Inbox, Owner
    from .reader import Reader
    from .writer import Writer

HELLO_S = 5.0  # a hello not answered for so long: try a fresh socket
BACKOFF_S = (0.1, 5.0)  # between attempts, doubled from the first to the second
PING_S = 2.0  # silence after which the daemon is asked
AWAY_S = 3.0  # not heard of for so long: what is sent again is no live data any more, but backfill
DEAD_S = 6.0  # and how long it may think about that
CREDIT_S = 0.02  # credit that is not urgent is granted at most so often
HOLD_S = 0.1  # before frames that found no room are sent again
REOPEN_MAX = 64  # streams being opened again at a time
CHUNKS_MAX = 4096  # of one message
CHUNK_BYTES = 48  # of one chunk in a header at most
HEADER_BYTES = 256  # of the rest


FLAG_BACKFILL, FLAG_TIME = 1, 2  # DataHeader.flags
FLAG_RESULT_TIME = 1  # ResultHeader.flags
FEATURES = IMAGES, TOKENS, SCHEDULE, RATES, VERSIONS = "images", "tokens", "schedule", "rates", "versions"  # wished for
# Of a reply to no request: what we sent was not understood, as a whole.
ABOUT_A_MESSAGE = (Code.MALFORMED, Code.FEATURE, Code.TOO_LARGE, Code.BAD_HANDLE, Code.BAD_FORMAT)

M = TypeVar("M", bound=Message)


def parse(message: M, data: bytes) -> M:
    """Fill in a message from bytes."""
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise Surprise("a message that cannot be decoded") from None
    return message


def refusal(error: pb.Error) -> Refused:
    """The daemon's sentence as an exception."""
    return Refused(error.text, Code(error.code))


class Surprise(Exception):
    """What came cannot be: the link is restarted, and what was lost with it comes again."""


class State(Enum):
    """Of the link."""

    DOWN = 0
    CONNECTING = 1
    HELLO = 2
    UP = 3


class Call:
    """A request on its way, and whom to tell: the reply, or None when the link broke."""

    __slots__ = ("answer", "message")

    def __init__(self, message: pb.FromClient, answer: Callable[[pb.Reply | None], None]) -> None:
        self.message = message
        self.answer = answer


class Core:
    """One connection and its streams."""

    def __init__(self, endpoint: str, name: str, writer: bytes) -> None:
        self.endpoint = endpoint
        self.name = name
        self.writer = writer
        self.state = State.DOWN
        self.attempt: int | None = None  # the socket that is wanted
        self.reconnects = -1
        self.why = ""  # the link is not up
        self.broken: Error | None = None  # nothing goes on
        self.changed = Signal()  # the link came up, or nothing goes on
        self.daemon: DaemonInfo
        self.in_flight = 0  # bytes pushed and not applied, all streams

        self.handles: dict[int, Inbox] = {}
        self.writers: set[Writer] = set()
        self.readers: list[Reader] = []
        self.reopen: dict[Writer, None] = {}  # in their order
        self.reopening = 0
        self.dirty: dict[Writer, None] = {}  # have frames to send
        self.held: set[Writer] = set()  # the daemon had no room for theirs
        self.crowded: set[Writer] = set()  # found no room in a window

        self.now = 0.0  # when a message came or left last
        self._attempts = 0
        self._last_request = 0
        self._calls: dict[int, Call] = {}
        self._waiting: list[Call] = []  # for the link
        self._control: deque[bytes] = deque()
        self._owing: dict[Inbox, None] = {}
        self._is_urgent = False
        self._backoff = BACKOFF_S[0]
        self.was_away = False  # for AWAY_S or longer, before the link came up
        self._retry_at = self._lost = self._heard = self._sent = self._credit_at = self._held_at = self._hello_at = 0.0
        self._pinged: float | None = None

    # ---- time

    def advance(self, now: float) -> None:
        """Whatever is due."""
        self.now = now
        if self.broken:
            return
        if self.state is State.DOWN and now >= self._retry_at:
            self._attempts += 1
            self.attempt = self._attempts
            self.state = State.CONNECTING
        elif self.state is State.HELLO and now > self._hello_at + HELLO_S:
            self.restart("the daemon does not answer hello")
        elif self.state is State.UP:
            self._check_liveness()
            if self.held and now >= self._held_at + HOLD_S:
                self._held_at = now
                for writer in self.held:
                    writer.retry_held()

    def due(self, now: float) -> float:
        """When `advance` or `next_message` has something to do though nothing happened; in seconds from now."""
        at = now + 60.0
        if self.state is State.DOWN and not self.broken:
            at = self._retry_at
        elif self.state is State.HELLO:
            at = self._hello_at + HELLO_S
        elif self.state is State.UP:
            at = min(self._heard + PING_S, self._sent + self.daemon.idle_ms / 3000)
            if self._pinged is not None:
                at = max(self._pinged, self._heard) + DEAD_S
            if self._owing:
                at = min(at, self._credit_at + CREDIT_S)
            if self.held:
                at = min(at, self._held_at + HOLD_S)
        return max(0.0, at - now)

    def _check_liveness(self) -> None:
        now = self.now
        if self._pinged is not None:
            if now - max(self._pinged, self._heard) > DEAD_S:
                self.restart(f"the daemon has not answered for {DEAD_S:.0f} seconds", 0)
        elif now >= self._heard + PING_S or now >= self._sent + self.daemon.idle_ms / 3000:
            self._pinged = now
            self.send(Call(pb.FromClient(ping=pb.Ping()), self._answer_ping))

    def _answer_ping(self, reply: pb.Reply | None) -> None:
        self._pinged = None

    # ---- coming and going

    def restart(self, why: str, delay: float | None = None) -> None:
        """Drop the socket and come back after `delay`, or after the back-off."""
        self.why = why
        if self.state is State.UP:
            self._lost = self._heard
        self.state = State.DOWN
        self.attempt = None
        if delay is None:
            delay = self._backoff
            self._backoff = min(2 * self._backoff, BACKOFF_S[1])
        self._retry_at = self.now + delay
        self._control.clear()
        self._owing.clear()
        self.dirty.clear()
        self.reopen.clear()
        self.reopening = 0
        self._pinged = None
        for inbox in list(self.handles.values()):
            inbox.detach()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.answer(None)
        for writer in self.writers:
            writer.lose_link()
        self.held.clear()
        for reader in list(self.readers):
            reader.lose_link()

    def fail(self, error: Error) -> None:
        """Nothing goes on: everybody who waits is told."""
        if not self.broken:
            self.broken = error
            self.state = State.DOWN
            self.attempt = None
            self.changed.fire()
            for writer in self.writers:
                writer.signal.fire()
            for reader in self.readers:
                reader.signal.fire()
            for call in self._waiting + list(self._calls.values()):
                call.answer(None)

    def check(self) -> None:
        """Raise when nothing goes on."""
        if self.broken:
            raise self.broken.with_traceback(None)

    def farewell(self) -> list[bytes]:
        """The last messages before the socket is closed. The daemon keeps the streams."""
        messages = [m[0] for m in (self._next_credit(True),) if m] if self.state is State.UP else []
        if self.state is State.UP:
            messages.append(pb.FromClient(request_id=0, bye=pb.Bye()).SerializeToString())
        self.fail(Closed("the client is closed"))
        return messages

    @property
    def is_up(self) -> bool:
        """The daemon has answered hello on this link."""
        return self.state is State.UP

    def connect(self) -> Operation[None]:
        """Until the daemon has answered hello."""
        while self.state is not State.UP:
            self.check()
            yield self.changed

    def hello(self) -> pb.Hello:
        """Who we are and what we ask for."""
        return pb.Hello(version_min=1, version_max=1, writer=self.writer, client=self.name, features=FEATURES)

    def check_images(self) -> None:
        """Raise when the daemon cannot give or take states."""
        if IMAGES not in self.daemon.features:
            raise Error(f"the daemon at {self.endpoint} is too old to give or take states", Code.FEATURE)

    def check_versions(self) -> None:
        """Raise when the daemon knows no versions of models."""
        if VERSIONS not in self.daemon.features:
            raise Error(f"the daemon at {self.endpoint} is too old to reload models or move streams", Code.FEATURE)

    def _hello(self) -> bytes:
        hello = self.hello()
        self._last_request += 1
        self._calls[self._last_request] = Call(pb.FromClient(), self._answer_hello)
        return pb.FromClient(request_id=self._last_request, hello=hello).SerializeToString()

    def _answer_hello(self, reply: pb.Reply | None) -> None:
        if reply is None:
            return
        is_first = self.reconnects < 0
        if reply.HasField("error"):
            if is_first:
                self.fail(refusal(reply.error))
                return
            raise Surprise(reply.error.text)
        limits = reply.hello.limits
        if reply.hello.version != 1 or limits.message_bytes < 1024 or limits.chunk_frames < 1:
            self.fail(ProtocolError(f"{self.endpoint} answered a hello that this client does not understand"))
            return
        self.daemon = daemon_info(reply.hello)
        self.reconnects += 1
        self.was_away = not is_first and self.now - self._lost >= AWAY_S
        self.state = State.UP
        self._backoff = BACKOFF_S[0]
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self.send(call)
        self.reopen.update(dict.fromkeys(w for w in self.writers if w.wants_reopen))
        for reader in self.readers:
            reader.read_again()
        self.changed.fire()

    # ---- requests

    def send(self, call: Call) -> None:
        """Now; the link is up."""
        self._last_request += 1
        call.message.request_id = self._last_request
        self._calls[self._last_request] = call
        self._control.append(call.message.SerializeToString())

    def ask(self, message: pb.FromClient, kind: str, take: Callable[[pb.Reply], T]) -> Operation[T]:
        """A request that is asked again when the link breaks. `take` runs as soon as the reply is there."""
        signal = Signal()
        outcome: list[T] = []
        failure: list[Error] = []

        def answer(reply: pb.Reply | None) -> None:
            if reply is None:
                if not self.broken:
                    self._waiting.append(call)
            elif reply.HasField("error"):
                failure.append(refusal(reply.error))
            elif reply.WhichOneof("answer") != kind:
                failure.append(ProtocolError("the daemon answered something else than was asked"))
            else:
                outcome.append(take(reply))
            signal.fire()

        call = Call(message, answer)
        self.check()
        if self.state is State.UP:
            self.send(call)
        else:
            self._waiting.append(call)
        try:
            while not outcome:
                if failure:
                    raise failure[0]
                self.check()
                yield signal
        finally:
            if call in self._waiting:
                self._waiting.remove(call)
            self._calls.pop(message.request_id, None)
        return outcome[0]

    def hold(self, writer: Writer) -> None:
        """The daemon has no room for its frames: they are sent again after a while."""
        if not self.held:
            self._held_at = self.now
        self.held.add(writer)

    def uncrowd(self) -> None:
        """There is room in the windows again."""
        crowded, self.crowded = self.crowded, set()
        for writer in crowded:
            writer.signal.fire()

    # ---- what goes out

    def owe(self, inbox: Inbox) -> None:
        """The stream has credit to grant."""
        if inbox.handle is not None:
            self._owing[inbox] = None
            self._is_urgent |= inbox.is_worth_a_message

    def owe_nothing(self, inbox: Inbox) -> None:
        """Its handle is dead."""
        self._owing.pop(inbox, None)

    @property
    def has_output(self) -> bool:
        """`next_message` has one, or will when the socket can be written to."""
        if self.state is State.UP:
            can_reopen = bool(self.reopen) and self.reopening < REOPEN_MAX
            return bool(self._control or self.dirty or self._is_urgent or can_reopen)
        return self.state is State.CONNECTING

    def next_message(self, now: float) -> list[bytes] | None:
        """The parts of the next message to send, if there is one. It will be sent: nothing else waits for it."""
        self.now = now
        parts: list[bytes] | None = None
        if self.state is State.CONNECTING:
            self.state = State.HELLO
            self._hello_at = self._heard = now
            parts = [self._hello()]
        elif self.state is State.UP:
            while self.reopen and self.reopening < REOPEN_MAX:
                writer = next(iter(self.reopen))
                del self.reopen[writer]
                self.reopening += 1
                writer.ask_again()
            if self._is_urgent:
                parts = self._next_credit(False)
            if not parts:
                parts = [self._control.popleft()] if self._control else self._next_credit(False) or self._next_data()
        if parts:
            self._sent = now
        return parts

    def _next_credit(self, all: bool) -> list[bytes] | None:
        is_due = all or self.now >= self._credit_at + CREDIT_S
        granted = [i for i in self._owing if is_due or i.is_worth_a_message]
        self._is_urgent = False
        if not granted:
            return None
        if is_due:
            self._credit_at = self.now
        credit = pb.Credit()
        for inbox in granted:
            del self._owing[inbox]
            taken, limit = inbox.grant()
            credit.handle.append(inbox.handle or 0)
            credit.received.append(taken)
            credit.limit.append(limit)
        return [pb.FromClient(request_id=0, credit=credit).SerializeToString()]

    def _next_data(self) -> list[bytes] | None:
        header = pb.DataHeader()
        payload: list[bytes] = []
        size, times, backfills = HEADER_BYTES, 0, 0
        while self.dirty and len(payload) < CHUNKS_MAX:
            writer = next(iter(self.dirty))
            chunk = writer.kept.unsent
            if chunk is None:
                del self.dirty[writer]
                continue
            size += CHUNK_BYTES + len(chunk.data)
            if payload and size > self.daemon.message_bytes:
                break
            header.handle.append(writer.inbox.handle or 0)
            header.epoch.append(writer.epoch)
            header.first.append(chunk.first)
            header.frames.append(chunk.frames)
            header.format.append(chunk.format)
            has_time = chunk.time is not None
            header.flags.append((FLAG_BACKFILL if chunk.backfill else 0) | (FLAG_TIME if has_time else 0))
            header.time.append(chunk.time or 0)
            times += has_time
            backfills += chunk.backfill
            payload.append(chunk.data)
            writer.kept.mark_sent()
        if not payload:
            return None
        if times == 0:
            header.ClearField("time")
        if backfills == 0 and times in (0, len(payload)):
            header.ClearField("flags")
        return [header.SerializeToString(), b"".join(payload)]

    # ---- what comes in

    def dropped(self, why: str) -> None:
        """The socket broke."""
        if self.attempt is not None:
            self.restart(why)

    def receive(self, parts: Sequence[bytes], now: float) -> None:
        """One message of the daemon."""
        self.now = self._heard = now
        try:
            if len(parts) == 1:
                self._take_control(parse(pb.FromDaemon(), parts[0]))
            elif len(parts) == 2:
                self._take_results(parse(pb.ResultHeader(), parts[0]), memoryview(parts[1]))
            else:
                raise Surprise("a message of more than two parts")
        except Surprise as surprise:
            self.restart(str(surprise))

    def _take_control(self, message: pb.FromDaemon) -> None:
        match message.WhichOneof("message"):
            case "reply":
                self._take_reply(message.reply)
            case "ack":
                ack = message.ack
                for handle, *columns in zip(ack.handle, ack.epoch, ack.applied, ack.durable, strict=True):
                    if owner := self._owner_of(handle):
                        owner.acknowledge(*columns)
            case "refusals":
                for refused in message.refusals.refusal:
                    if refused.error.code == pb.NO_HELLO:
                        self.restart(refused.error.text, 0)
                        return
                    if owner := self._owner_of(refused.handle):
                        owner.refused(refused)
            case "event":
                self._take_event(message.event)
            case "going_away":
                if message.going_away.HasField("reconnect_ms"):
                    self._backoff = min(message.going_away.reconnect_ms / 1000, BACKOFF_S[1])
            case _:
                raise Surprise("an empty message")

    def _take_reply(self, reply: pb.Reply) -> None:
        code = Code(reply.error.code)
        if code == Code.NO_HELLO and self.state is State.UP:
            self.restart(reply.error.text, 0)
            return
        if reply.request_id == 0 and code in ABOUT_A_MESSAGE:
            raise Surprise(reply.error.text)
        call = self._calls.pop(reply.request_id, None)
        if call:
            call.answer(reply)

    def _owner_of(self, handle: int) -> Owner | None:
        inbox = self.handles.get(handle)
        return inbox.owner if inbox else None

    def _take_event(self, event: pb.Event) -> None:
        if event.kind == pb.Event.READING:
            if not any(reader.is_match(event.stream.id) and reader.reading(event) for reader in self.readers):
                raise Surprise("a stream to read that nobody asked for")
            return
        inbox = self.handles.get(event.handle)
        if inbox and event.kind in (pb.Event.TAKEN_OVER, pb.Event.ENDED):
            inbox.detach()
        if inbox and inbox.owner:
            inbox.owner.take_event(inbox, event)

    def _take_results(self, header: pb.ResultHeader, payload: memoryview) -> None:
        n, at = len(header.handle), 0
        times: list[int | None] = list(header.time) or [None] * n
        flags = list(header.flags) or [FLAG_RESULT_TIME if header.time else 0] * n
        if {len(header.epoch), len(header.first), len(header.frames), len(times), len(flags)} != {n}:
            raise Surprise("columns of different lengths")
        for i, handle in enumerate(header.handle):
            inbox = self.handles.get(handle)
            if inbox is None:
                if n == 1:
                    return
                raise Surprise("results of a stream that was not opened")
            end = at + header.frames[i] * inbox.frame_bytes
            if end == at or end > len(payload):
                raise Surprise("a payload shorter than its header says")
            if inbox.owner:
                time = times[i] if flags[i] & FLAG_RESULT_TIME else None
                inbox.accept(header.epoch[i], header.first[i], header.frames[i], time, payload[at:end])
            at = end
        if at != len(payload):
            raise Surprise("a payload longer than its header says")
