# SPDX-License-Identifier: Apache-2.0
"""The core, message by message: what no real daemon does on demand."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import pytest

import ssmd
from ssmd._core import ssmd_pb2 as pb
from ssmd._core.link import CREDIT_S, DEAD_S, HOLD_S, PING_S, Core
from ssmd._core.query import ping
from ssmd._core.reader import Reader, open_reader
from ssmd._core.samples import Samples, encode
from ssmd._core.signal import Operation
from ssmd._core.writer import Writer, open_writer

T = TypeVar("T")
ME = object()


def _try(operation: Operation[T]) -> T | None:
    """Run it on; its value, or None when it waits."""
    try:
        next(operation)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    return None


class Fake:
    """A core and what it says; the test is the daemon."""

    def __init__(self, **limits: int) -> None:
        self.core = Core("inproc://fake", "test", b"w" * 16)
        self.now = 100.0
        self.limits: dict[str, Any] = {
            "message_bytes": 1 << 20,
            "chunk_frames": 65536,
            "stream_window": 1 << 20,
            "connection_window": 1 << 24,
            "result_ring": 1 << 18,
            "streams": 100,
            "idle_ms": 30000,
        } | limits
        self.data: list[tuple[pb.DataHeader, bytes]] = []
        self.hello()

    def said(self) -> list[pb.FromClient]:
        """What came since, without data, which is in `data`."""
        said: list[pb.FromClient] = []
        self.core.advance(self.now)
        while parts := self.core.next_message(self.now):
            if len(parts) == 2:
                self.data.append((pb.DataHeader.FromString(parts[0]), parts[1]))
            else:
                said.append(pb.FromClient.FromString(parts[0]))
        return said

    def say(self, **message: Any) -> None:
        self.core.receive([pb.FromDaemon(**message).SerializeToString()], self.now)

    def answer(self, request: pb.FromClient, **answer: Any) -> None:
        self.say(reply=pb.Reply(request_id=request.request_id, **answer))

    def refuse(self, request: pb.FromClient, code: ssmd.Code) -> None:
        self.answer(request, error=pb.Error(code=code.value, text=code.name))  # type: ignore[arg-type]

    def hello(self, incarnation: bytes = b"i" * 16) -> list[pb.FromClient]:
        (hello,) = self.said()
        assert hello.hello.writer == b"w" * 16
        self.answer(
            hello,
            hello=pb.HelloReply(
                version=1, daemon="fake", incarnation=incarnation, durability="NONE", limits=pb.Limits(**self.limits)
            ),
        )
        return self.said()

    def open(self, resume: bool | None = None, channels: int = 1, buffer: int = 1 << 20) -> Writer:
        mode = pb.ANY if resume is None else pb.RESUME if resume else pb.CREATE
        operation = open_writer(self.core, pb.Open(id=b"x", model="m", mode=mode, results=True), buffer)
        assert _try(operation) is None
        (request,) = self.said()
        self.answer(request, stream=info(channels=channels))
        writer = _try(operation)
        assert writer
        (credit,) = self.said()
        assert list(credit.credit.limit) == [buffer]
        return writer

    def push(self, writer: Writer, frames: int, backfill: bool = False, time: int | None = None) -> Samples:
        samples = encode(
            np.ones((frames, writer.info.channels), np.float32), writer.info.channels, None, time, backfill
        )
        _try(writer.push(samples, ME))
        return samples

    def results(self, first: int, frames: int, channels: int = 1, handle: int = 7, epoch: int = 1) -> None:
        header = pb.ResultHeader(handle=[handle], epoch=[epoch], first=[first], frames=[frames])
        payload = np.arange(first * channels, (first + frames) * channels, dtype="<f4").tobytes()
        self.core.receive([header.SerializeToString(), payload], self.now)

    def chunks(self) -> list[tuple[int, int]]:
        """First and frames of the chunks that were sent since."""
        self.said()
        data, self.data = self.data, []
        return [pair for header, _ in data for pair in zip(header.first, header.frames, strict=True)]


def info(**changes: Any) -> pb.StreamInfo:
    """Of stream x, as an open would answer."""
    facts: dict[str, Any] = {
        "id": b"x", "model": "m", "epoch": 1, "next": 0, "applied": 0, "durable": 0, "result_first": 0,
        "result_next": 0, "rate": 100.0, "channels": 1, "out_rate": 100.0, "out_channels": 1, "ratio_num": 1,
        "ratio_den": 1, "hop": 1, "lookahead": 0, "state_bytes": 4, "handle": 7, "created": True,
    }  # fmt: skip
    return pb.StreamInfo(**facts | changes)


def ack(applied: int, epoch: int = 1, handle: int = 7) -> pb.Ack:
    """With durability NONE both are equal."""
    return pb.Ack(handle=[handle], epoch=[epoch], applied=[applied], durable=[applied])


def refusal(code: ssmd.Code, expected: int) -> pb.Refusals:
    """Of a chunk of stream x."""
    error = pb.Error(code=code.value, text=code.name)  # type: ignore[arg-type]
    return pb.Refusals(refusal=[pb.Refusal(handle=7, epoch=1, expected=expected, first=99, error=error)])


def reopened(fake: Fake, writer: Writer, incarnation: bytes = b"i" * 16, **facts: Any) -> pb.Open:
    """The link broke; the daemon answers the second opening so. What was asked."""
    fake.now += 10
    (request,) = fake.hello(incarnation)
    assert request.open.mode == pb.RESUME
    assert not request.open.take_over
    fake.answer(request, stream=info(**{"created": False, "handle": 8} | facts))
    return request.open


def codes__of_the_wire__are_all_there() -> None:
    assert {code.name: code.value for code in ssmd.Code} == dict(pb.Code.items())


def hello__refused__is_said_at_once() -> None:
    core = Core("inproc://fake", "test", b"w" * 16)
    operation = core.connect()
    next(operation)
    core.advance(1.0)
    parts = core.next_message(1.0)
    assert parts
    request = pb.FromClient.FromString(parts[0]).request_id
    error = pb.Error(code=pb.VERSION, text="no common version")
    core.receive([pb.FromDaemon(reply=pb.Reply(request_id=request, error=error)).SerializeToString()], 1.0)
    with pytest.raises(ssmd.Refused, match="no common version") as caught:
        next(operation)
    assert caught.value.code is ssmd.Code.VERSION


def gap__refused__is_sent_again_from_where_the_daemon_stands() -> None:
    fake = Fake()
    writer = fake.open()
    fake.push(writer, 10)
    fake.push(writer, 10, backfill=True, time=5)
    assert fake.chunks() == [(0, 10), (10, 10)]
    fake.say(refusals=refusal(ssmd.Code.GAP, 15))
    fake.said()
    header, payload = fake.data[-1]
    assert (list(header.first), list(header.frames), list(header.flags), list(header.time)) == ([15], [5], [3], [5])
    assert len(payload) == 20


def overflow__refused__is_tried_again_after_a_while_until_it_is_taken() -> None:
    fake = Fake()
    writer = fake.open()
    fake.push(writer, 10)
    assert fake.chunks() == [(0, 10)]
    fake.say(refusals=refusal(ssmd.Code.OVERFLOW, 4))
    assert fake.chunks() == []
    for _ in range(3):
        fake.now += HOLD_S
        assert fake.chunks() == [(4, 6)]
    fake.say(ack=ack(10))
    fake.now += HOLD_S
    assert fake.chunks() == []


def window__of_a_stream_and_of_the_connection__are_never_exceeded() -> None:
    fake = Fake(stream_window=4096, connection_window=6000, chunk_frames=256)
    writer = fake.open()
    samples = fake.push(writer, 5000)
    applied = 0
    while samples.left:
        assert (writer.kept.next - applied) * 4 <= 4096
        assert fake.core.in_flight == (writer.kept.next - applied) * 4
        applied = min(applied + 300, writer.kept.next)
        fake.say(ack=ack(applied))
        _try(writer.push(samples, ME))
    chunks = fake.chunks()
    assert [first % 256 for first, _ in chunks] == [0] * len(chunks)
    fake.say(ack=ack(5000))
    assert fake.core.in_flight == 0


def pieces__of_a_long_push__begin_on_the_grid_whatever_was_acknowledged() -> None:
    def cut(acks: list[int]) -> list[tuple[int, int]]:
        fake = Fake(stream_window=1600, chunk_frames=300)
        writer = fake.open()
        fake.push(writer, 37, backfill=True)
        samples = fake.push(writer, 2000, backfill=True)
        applied, at = 0, 0
        chunks = fake.chunks()
        while samples.left:
            applied = min(applied + acks[at % len(acks)], writer.kept.next)
            at += 1
            fake.say(ack=ack(applied))
            _try(writer.push(samples, ME))
            chunks += fake.chunks()
        return chunks

    chunks = cut([1000])
    assert chunks == cut([1]) == cut([33, 190])
    assert [first % 64 for first, _ in chunks[2:]] == [0] * (len(chunks) - 2)


def credit__received__rises_only_with_what_the_caller_came_back_from() -> None:
    fake = Fake()
    writer = fake.open(buffer=64)
    fake.results(0, 10)
    assert _try(writer.take(ME))
    fake.now += CREDIT_S
    (said,) = fake.said()
    assert (list(said.credit.received), list(said.credit.limit)) == ([0], [104])
    assert _try(writer.take(ME)) is None
    fake.now += CREDIT_S
    (said,) = fake.said()
    assert (list(said.credit.received), list(said.credit.limit)) == ([10], [104])


def credit__limit__leaves_out_what_waits_here() -> None:
    fake = Fake()
    writer = fake.open(buffer=64)
    fake.results(0, 10)
    assert _try(writer.take(ME))
    fake.results(10, 5)
    fake.now += CREDIT_S
    (said,) = fake.said()
    assert list(said.credit.limit) == [60 + 64 - 20]


def credit__for_the_last_result__leaves_before_the_next_question() -> None:
    fake = Fake()
    writer = fake.open()
    operation = writer.close(ME)
    next(operation)
    (request,) = fake.said()
    fake.results(0, 1)
    fake.answer(request, stream=info(result_next=1))
    assert _try(writer.take(ME))
    with pytest.raises(StopIteration):
        next(writer.take(ME))
    next(ping(fake.core))
    assert [m.WhichOneof("request") for m in fake.said()] == ["credit", "ping"]


def results__that_follow_one_another__come_together_but_for_times() -> None:
    fake = Fake()
    writer = fake.open()
    fake.results(0, 3)
    fake.results(3, 2)
    header = pb.ResultHeader(handle=[7, 7], epoch=[1, 1], first=[5, 6], frames=[1, 1], flags=[1, 0], time=[-9, 0])
    fake.core.receive([header.SerializeToString(), bytes(8)], fake.now)
    results = [_try(writer.take(ME)) for _ in range(4)]
    assert [(r.first, len(r), r.time) for r in results if r] == [(0, 5, None), (5, 1, -9), (6, 1, None)]
    assert results[0] and results[0].values.flags.writeable and results[0].values.tolist() == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(
    "surprise",
    [
        lambda fake: fake.results(5, 1),  # a hole
        lambda fake: fake.say(ack=ack(1)),  # never pushed
        lambda fake: fake.core.receive([b"\xff"], fake.now),
        lambda fake: fake.core.receive([b""], fake.now),
        lambda fake: fake.core.receive([b"", b"", b""], fake.now),
        lambda fake: fake.core.receive([pb.ResultHeader(handle=[7]).SerializeToString(), b""], fake.now),
    ],
)
def surprise__from_the_daemon__restarts_the_link_and_resumes(surprise: Any) -> None:
    fake = Fake()
    writer = fake.open()
    fake.results(0, 2)
    surprise(fake)
    assert fake.core.attempt is None
    fake.push(writer, 4)
    assert reopened(fake, writer).results_from == 2
    fake.results(1, 3, handle=8)
    result = _try(writer.take(ME))
    assert result and result.values.ravel().tolist() == [0, 1, 2, 3]
    assert fake.chunks() == [(0, 4)]


def messages__cut_anywhere__never_raise() -> None:
    header = pb.ResultHeader(handle=[7, 7], epoch=[1, 1], first=[0, 1], frames=[1, 1], time=[3, 4]).SerializeToString()
    control = pb.FromDaemon(reply=pb.Reply(request_id=9, stream=info())).SerializeToString()
    for cut in range(len(header)):
        fake = Fake()
        fake.open()
        fake.core.receive([header[:cut], bytes(8)], fake.now)
    for cut in range(len(control)):
        fake = Fake()
        fake.core.receive([control[:cut]], fake.now)
    for cut in range(8):
        fake = Fake()
        fake.open()
        fake.core.receive([header, bytes(cut)], fake.now)
        assert fake.core.attempt is None


def link__broken__sends_again_what_the_daemon_does_not_have() -> None:
    fake = Fake()
    writer = fake.open()
    fake.push(writer, 10)
    fake.push(writer, 10, time=1)
    assert fake.chunks() == [(0, 10), (10, 10)]
    fake.say(ack=ack(4))
    fake.core.dropped("cut")
    fake.push(writer, 5)
    reopened(fake, writer, next=12, applied=7, durable=7)
    assert fake.chunks() == [(12, 8), (20, 5)]
    assert fake.core.in_flight == 18 * 4


def daemon__forgot_us__is_greeted_at_once() -> None:
    fake = Fake()
    fake.open()
    fake.say(reply=pb.Reply(request_id=0, error=pb.Error(code=pb.NO_HELLO, text="who are you")))
    (request,) = fake.hello()
    assert request.open.id == b"x"


def daemon__another_one__names_the_index_to_send_from() -> None:
    for answer in ("gone", "remade"):
        fake = Fake()
        writer = fake.open()
        fake.push(writer, 10)
        fake.results(0, 2)
        fake.core.dropped("cut")
        fake.now += 10
        (request,) = fake.hello(b"j" * 16)
        if answer == "gone":
            fake.refuse(request, ssmd.Code.NO_STREAM)
        else:
            fake.answer(request, stream=info(handle=8))
        assert _try(writer.take(ME))  # what had come
        for operation in (writer.take(ME), writer.push(encode([0], 1, None, None, False), ME), writer.close(ME)):
            with pytest.raises(ssmd.Lost, match="send from frame 0") as caught:
                next(operation)
            assert caught.value.index == 0
        assert fake.core.in_flight == 0


def stream__ahead_of_us__was_written_by_somebody_else() -> None:
    fake = Fake()
    writer = fake.open()
    fake.push(writer, 10)
    fake.core.dropped("cut")
    reopened(fake, writer, next=11)
    with pytest.raises(ssmd.TakenOver, match="somebody else"):
        next(writer.take(ME))


def reset__whose_answer_was_lost__is_done_when_the_epoch_rose() -> None:
    fake = Fake()
    writer = fake.open()
    fake.push(writer, 10)
    operation = writer.reset(ME)
    assert next(operation)
    assert fake.said() == []
    fake.say(ack=ack(10))
    (request,) = fake.said()
    assert request.reset.handle == 7
    fake.core.dropped("cut")
    reopened(fake, writer, epoch=2, results_from=0)
    with pytest.raises(StopIteration):
        next(operation)
    assert (writer.epoch, writer.kept.next, writer.inbox.next) == (2, 0, 0)
    fake.results(0, 1, handle=8, epoch=2)
    result = _try(writer.take(ME))
    assert result and (result.epoch, result.first) == (2, 0)


def close__whose_answer_was_lost__is_done_when_every_result_came() -> None:
    for results, is_whole in ((10, True), (9, False)):
        fake = Fake()
        writer = fake.open()
        fake.push(writer, 10)
        operation = writer.close(ME)
        next(operation)
        fake.say(ack=ack(10))
        assert fake.said()[0].close.handle == 7
        fake.results(0, results)
        fake.core.dropped("cut")
        fake.now += 10
        (request,) = fake.hello()
        fake.refuse(request, ssmd.Code.NO_STREAM)
        with pytest.raises(StopIteration if is_whole else ssmd.Lost):
            next(operation)


def create__asked_twice__finds_what_the_first_made() -> None:
    fake = Fake()
    operation = open_writer(fake.core, pb.Open(id=b"x", model="m", mode=pb.CREATE), 64)
    assert next(operation)
    assert fake.said()[0].open.mode == pb.CREATE
    fake.core.dropped("cut")
    fake.now += 10
    (request,) = fake.hello()
    fake.refuse(request, ssmd.Code.EXISTS)
    assert next(operation)
    (request,) = fake.said()
    assert request.open.mode == pb.RESUME
    fake.answer(request, stream=info())
    assert _try(operation)


def daemon__silent__is_asked_and_then_left() -> None:
    fake = Fake()
    fake.now += PING_S
    assert [m.WhichOneof("request") for m in fake.said()] == ["ping"]
    fake.now += DEAD_S - 0.1
    assert fake.said() == []
    assert fake.core.attempt is not None
    fake.now += 0.2
    assert [m.WhichOneof("request") for m in fake.said()] == []
    assert [m.WhichOneof("request") for m in fake.said()] == ["hello"]


def client__without_anything_to_say__pings_three_times_in_idle_ms() -> None:
    fake = Fake(idle_ms=3000)
    for _ in range(5):
        fake.say(ack=pb.Ack())
        fake.now += 1.0
        assert fake.core.due(fake.now) == 0
        (ping,) = fake.said()
        fake.answer(ping, pong=pb.Pong(daemon_ns=1))


def results__nobody_takes__are_said_instead_of_waited_for() -> None:
    fake = Fake(stream_window=4096)
    writer = fake.open()
    samples = fake.push(writer, 3000)
    fake.results(0, (1 << 17) // 4)
    with pytest.raises(ssmd.ResultsWaiting, match="frames below 1024"):
        next(writer.push(samples, ME))
    writer.taker = object()  # somebody else takes them
    assert next(writer.push(samples, ME)) is writer.signal


def _reader(fake: Fake, **read: Any) -> Reader:
    operation = open_reader(fake.core, pb.Read(**read), 1 << 20)
    assert next(operation)
    (request,) = fake.said()
    fake.answer(request, read=pb.ReadReply(handle=[7]))
    reader = _try(operation)
    assert reader
    return reader


def _event(fake: Fake, kind: int, **facts: Any) -> None:
    fake.say(event=pb.Event(kind=kind, **{"handle": 7} | facts))  # type: ignore[arg-type]


def reader__overrun_reset_and_ended__tells_what_was_lost() -> None:
    fake = Fake()
    reader = _reader(fake, id=b"x")
    _event(fake, pb.Event.READING, epoch=1, first=5, stream=info())
    fake.results(5, 2)
    _event(fake, pb.Event.LOST, epoch=1, first=7, next=10)
    fake.results(10, 1)
    _event(fake, pb.Event.EPOCH, epoch=2, first=0)
    fake.results(0, 1, epoch=2)
    _event(fake, pb.Event.ENDED, epoch=2)
    taken = []
    while (result := _try(reader.take())) is not None:
        taken.append((result.id, result.epoch, result.first, len(result), result.lost))
    assert taken == [("x", 1, 5, 2, 0), ("x", 1, 10, 1, 3), ("x", 2, 0, 1, 0)]
    with pytest.raises(StopIteration):
        next(reader.take())


def reader__after_the_link_broke__goes_on_behind_what_came() -> None:
    fake = Fake()
    reader = _reader(fake, id=b"x")
    _event(fake, pb.Event.READING, epoch=1, first=0, stream=info())
    fake.results(0, 4)
    fake.core.dropped("cut")
    fake.now += 10
    (request,) = fake.hello()
    assert getattr(request.read, "from") == 4
    fake.refuse(request, ssmd.Code.TOO_OLD)
    (request,) = fake.said()
    assert not request.read.HasField("from")
    fake.answer(request, read=pb.ReadReply(handle=[9]))
    _event(fake, pb.Event.READING, handle=9, epoch=1, first=6, stream=info())
    fake.results(6, 1, handle=9)
    results = [_try(reader.take()), _try(reader.take())]
    assert [(r.first, r.lost) for r in results if r] == [(0, 0), (6, 2)]


def reader__of_a_prefix_that_was_closed__closes_what_is_announced() -> None:
    fake = Fake()
    reader = _reader(fake, prefix=b"")
    _event(fake, pb.Event.READING, epoch=1, first=0, stream=info())
    fake.results(0, 4)
    reader.give_up()
    _event(fake, pb.Event.READING, handle=8, epoch=1, first=0, stream=info(id=b"y"))
    requests = fake.said()
    assert sorted(r.close.handle for r in requests if r.HasField("close")) == [7, 8]
    fake.results(4, 1)
    fake.results(0, 1, handle=8)
    for request in requests:
        fake.answer(request)
    assert fake.core.attempt is not None
    assert fake.core.handles == {}
    with pytest.raises(ssmd.Closed):
        next(reader.take())
