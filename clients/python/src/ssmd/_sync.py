# SPDX-License-Identifier: Apache-2.0
"""The synchronous shell: calls that block, and one thread for each connection that moves its messages.

One lock guards the core. A call runs its operation under the lock and sleeps outside; the thread holds the lock while
it moves messages. So a client and its streams may be used by several threads: one pushes, another takes results.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import threading
import time as clock
import weakref
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import zmq
from numpy.typing import ArrayLike

from ._core import generation, query, state
from ._core.link import Core
from ._core.reader import Reader as CoreReader
from ._core.reader import open_reader
from ._core.signal import Operation
from ._core.writer import Writer, open_writer
from ._endpoint import explain_silence
from ._shell import (
    BUFFER,
    TIMEOUT,
    StreamFacts,
    generate_message,
    image_bytes,
    new_core,
    one_of,
    open_message,
    read_message,
    resume_message,
)
from ._socket import Pump
from ._tap import TapSocket
from ._text import TokenizerLike, Writing, encode, encode_stop, load
from .errors import ProtocolError, Timeout, Unreachable
from .values import Counter, DaemonInfo, Image, ModelInfo, Reload, Result, StreamInfo, Token, id_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")


class _Driver:
    """The core, its lock and its thread. It does not know the client, so that a forgotten client is closed."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._lock = threading.Lock()
        self._pump = Pump(core)
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wakeup)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="ssmd", daemon=True)
        self._thread.start()

    def drive(self, operation: Operation[T], timeout: float | None) -> T:
        """Run an operation to its end, in the caller's thread."""
        until = None if timeout is None else clock.monotonic() + timeout
        woken = threading.Event()
        try:
            with self._lock:
                while True:
                    signal = next(operation)
                    woken.clear()
                    signal.add(woken.set)
                    self.wake()
                    self._lock.release()
                    try:
                        in_time = woken.wait(None if until is None else max(0.0, until - clock.monotonic()))
                    finally:
                        self._lock.acquire()
                        signal.discard(woken.set)
                    if not in_time:
                        raise self._late()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            with self._lock:
                operation.close()
            self.wake()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """For what needs no operation."""
        with self._lock:
            yield
        self.wake()

    def wake(self) -> None:
        """The core may have something to send."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._wakeup, 1)

    def stop(self) -> None:
        """Say farewell; the thread ends."""
        self._is_stopping = True
        self.wake()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _late(self) -> Timeout:
        core = self.core
        return Timeout("it takes longer than it was given" if core.is_up else explain_silence(core.endpoint, core.why))

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._turn()
            with self._lock:
                self._pump.close()
        except BaseException as error:
            with self._lock:
                self.core.fail(ProtocolError(f"the connection's thread ended: {error!r}"))
            raise

    def _turn(self) -> None:
        poller = zmq.Poller()
        poller.register(self._wakeup, zmq.POLLIN)
        with self._lock:
            has_more = self._pump.step()
            wait_ms = 0 if has_more else int(self.core.due(clock.monotonic()) * 1000) + 1
            if self._pump.socket and self._pump.monitor:
                poller.register(self._pump.socket, zmq.POLLIN | (zmq.POLLOUT if self.core.has_output else 0))
                poller.register(self._pump.monitor, zmq.POLLIN)
        if any(ready == self._wakeup for ready, _ in poller.poll(wait_ms)):
            os.eventfd_read(self._wakeup)


def connect(
    endpoint: str | None = None,
    *,
    name: str = "ssmd.py",
    writer: bytes | None = None,
    timeout: float | None = 5.0,
    reply_timeout: float | None = TIMEOUT,
) -> Client:
    """Connect to a daemon and say hello.

    `endpoint` is $SSMD_ENDPOINT when it is not given, else $XDG_RUNTIME_DIR/ssmd/ssmd.sock when that is there, else
    the system's. `name` is for the daemon's log. `writer` is the identity (16 bytes) by which streams are resumed; a
    program that wants to resume its streams after it was started anew keeps it. `reply_timeout` is for whatever asks
    the daemon something: seconds, None waits for ever. Raises Unreachable when no daemon answers within `timeout`.
    """
    driver = _Driver(new_core(endpoint, name, writer))
    try:
        driver.drive(driver.core.connect(), timeout)
    except Timeout as late:
        driver.stop()
        raise Unreachable(str(late)) from None
    except BaseException:
        driver.stop()
        raise
    return Client(driver, reply_timeout)


class Client:
    """A connection; one carries many streams, and should. Made by `connect`; any thread may use it."""

    def __init__(self, driver: _Driver, reply_timeout: float | None) -> None:
        self._driver = driver
        self._timeout = reply_timeout
        self._finalizer = weakref.finalize(self, driver.stop)

    def open(
        self,
        id: str | bytes,
        model: str,
        *,
        rate: float | None = None,
        native_rate: bool = False,
        channels: int | None = None,
        resume: bool | None = None,
        take_over: bool = False,
        results: bool = True,
        results_from: int | None = None,
        history: tuple[int, int] | None = None,
        deadline_class: str | None = None,
        buffer: int = BUFFER,
        top_k: int | None = None,
        generates: bool = False,
        tokenizer: TokenizerLike | None = None,
    ) -> Stream:
        """Open a stream to write.

        `rate` (Hz) and `channels` are the model's when not given, and refused when they are others; with `native_rate`
        a model of continuous-time layers is discretised anew for another rate (`StreamInfo.config_rate`). `resume`:
        True takes only a stream that exists, False makes only a new one, None either; `stream.next` says from which
        frame to push. `take_over` takes it from another writer. Without `results` none are sent here. `results_from` is
        the first one wanted, else the oldest that was not received. `history` (interval, depth) in frames, the interval
        a multiple of 64, keeps what rollback needs. `deadline_class`, of the daemon's configuration, says when results
        of live frames are due. `buffer` bounds the bytes of results that wait here.

        Of models of tokens: `top_k` asks for so many most probable tokens instead of all logits, `generates` for what
        `Stream.generate` needs (see `Result.pairs`). `tokenizer`, a tokenizer.json, is for text.
        """
        message = open_message(
            id,
            model,
            rate,
            channels,
            resume,
            take_over,
            results,
            results_from,
            top_k,
            generates,
            history,
            deadline_class,
            native_rate,
        )
        text = load(tokenizer)
        return Stream(self, self._ask(open_writer(self._driver.core, message, buffer)), text)

    def read(
        self,
        id: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        from_: int | None = None,
        buffer: int = BUFFER,
    ) -> Reader:
        """Read the results of a stream that others write, or of all whose ids begin with `prefix`, also later ones.

        Reliable: complete and in order, but for what the daemon had to overwrite, which `Result.lost` counts. `from_`
        is the output index to begin at; else one id begins with the oldest kept, a prefix with the next.
        """
        return Reader(self, self._ask(open_reader(self._driver.core, read_message(id, prefix, from_), buffer)))

    def watch(self, id: str | bytes | None = None, *, prefix: str | bytes | None = None) -> Watch:
        """Watch results as they are computed: lossy, and no burden to the daemon. prefix="" watches everything."""
        one_of(id, prefix)
        return Watch(TapSocket(self.daemon, id_bytes(id) if id is not None else None, id_bytes(prefix or b"")))

    def snapshot(self, id: str | bytes) -> Image:
        """The state of any stream, whoever writes it: after every frame that the daemon has accepted."""
        return self._ask(state.snapshot(self._driver.core, id_bytes(id)))

    def restore(
        self,
        image: Image | bytes,
        id: str | bytes | None = None,
        *,
        results: bool = True,
        buffer: int = BUFFER,
        tokenizer: TokenizerLike | None = None,
    ) -> Stream:
        """A new stream of an image, in any daemon that has its model, to go on with; `id`: if not the image's."""
        name = None if id is None else id_bytes(id)
        info = self._ask(state.restore(self._driver.core, image_bytes(image), name))
        return self._resume(info, results, buffer, tokenizer)

    def fork(
        self,
        id: str | bytes,
        new_id: str | bytes,
        *,
        results: bool = True,
        buffer: int = BUFFER,
        tokenizer: TokenizerLike | None = None,
    ) -> Stream:
        """A new stream of the state of any stream, at the same index."""
        info = self._ask(state.fork(self._driver.core, id_bytes(id), id_bytes(new_id)))
        return self._resume(info, results, buffer, tokenizer)

    def _resume(self, info: StreamInfo, results: bool, buffer: int, tokenizer: TokenizerLike | None) -> Stream:
        text = load(tokenizer)
        return Stream(self, self._ask(open_writer(self._driver.core, resume_message(info, results), buffer)), text)

    def models(self) -> builtins.list[ModelInfo]:
        """What the daemon offers."""
        return list(self._ask(query.daemon(self._driver.core)).models)

    def list(self, prefix: str | bytes = "") -> builtins.list[StreamInfo]:
        """The streams there are, in byte order of their ids."""
        return self._ask(query.list_streams(self._driver.core, id_bytes(prefix)))

    def info(self, id: str | bytes) -> StreamInfo:
        """One stream."""
        return self._ask(query.info(self._driver.core, id_bytes(id)))

    def stats(self) -> dict[str, Counter]:
        """The daemon's counters, by name."""
        return {counter.name: counter for counter in self._ask(query.stats(self._driver.core))}

    def reload(self, model: str | None = None) -> Reload:
        """Let the daemon read its directories of models again, or one of them: what differs is for new streams."""
        return self._ask(query.reload(self._driver.core, model))

    def ping(self) -> float:
        """Seconds to the daemon and back."""
        began = clock.monotonic()
        self._ask(query.ping(self._driver.core))
        return clock.monotonic() - began

    @property
    def daemon(self) -> DaemonInfo:
        """The daemon, as it said in its last hello."""
        return self._driver.core.daemon

    @property
    def reconnects(self) -> int:
        """How often the link broke and came back."""
        return self._driver.core.reconnects

    @property
    def writer(self) -> bytes:
        """The identity by which streams are resumed."""
        return self._driver.core.writer

    def close(self) -> None:
        """Say goodbye. The daemon keeps the streams."""
        self._finalizer()

    def _ask(self, operation: Operation[T]) -> T:
        return self._driver.drive(operation, self._timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Stream(StreamFacts):
    """A stream that is written here. Iterate it for its results; a `with` block closes it at its end.

    A connection that breaks is resumed inside, without loss; so is a daemon that was stopped in order and keeps its
    streams in a state directory. When the daemon has lost the stream's state, every call raises Lost, whose
    `index` says from which frame to send again after opening the stream anew.
    """

    def __init__(self, client: Client, writer: Writer, tokenizer: Tokenizer | None) -> None:
        self._client = client
        self._driver = client._driver
        self._writer = writer
        self._tokenizer = tokenizer

    def push(
        self, samples: ArrayLike, *, time: int | None = None, backfill: bool = False, timeout: float | None = None
    ) -> None:
        """Send frames: an array (frames, channels), or (frames) of one channel, or a list.

        Floating point is taken as it is; int16 and int32 are PCM, divided by 2^15 and 2^31; a model of tokens takes
        integers. Waits while the daemon's window is full. Raises ResultsWaiting when it would wait for ever because
        this thread alone takes results and has not; `next` says what was pushed, also after Timeout. `time` comes back
        with the results. `backfill` marks recorded data, for which the daemon may use the chunk form of the model.
        """
        operation = self._writer.push(self._samples(samples, time, backfill), threading.get_ident())
        self._driver.drive(operation, timeout)

    def pipe(self, chunks: Iterable[ArrayLike], *, backfill: bool = False) -> Iterator[Result]:
        """Push everything that `chunks` gives and yield the results as they come, then close and yield the tail."""
        for chunk in chunks:
            samples = self._samples(chunk, None, backfill)
            while result := self._driver.drive(self._writer.exchange(samples, threading.get_ident()), None):
                yield result
        self.close()
        yield from self

    def generate(
        self,
        prompt: str | Sequence[int] = (),
        *,
        maximum: int = 256,
        stop: Iterable[int | str] = (),
        recent: Sequence[int] = (),
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        repetition_window: int = 64,
        seed: int = 0,
    ) -> Iterator[Token]:
        """Give the model the prompt and yield the tokens that it draws, as they come.

        The prompt is tokens, or text where the stream has a tokenizer; none goes on with the token drawn last. At most
        `maximum` tokens come, and none behind one of `stop` (tokens, or their names). The options apply in the order
        repetition_penalty, temperature, top_k, top_p, min_p; temperature 0 takes the most probable token. `recent` are
        tokens before the prompt that the penalty counts too. The same seed draws the same tokens.

        The daemon consumes every token but the last. `ending` says afterwards why it ended. Leaving the loop early
        cancels. Until the end the stream takes no other input, and what was not taken of its results before is dropped.
        """
        request = generate_message(
            maximum, encode_stop(self._tokenizer, stop), recent, temperature, top_k, top_p, min_p,
            repetition_penalty, repetition_window, seed,
        )  # fmt: skip
        tokens = encode(self._tokenizer, prompt, self.next == 0)
        writing = Writing(self._tokenizer, tokens)
        running = self._driver.drive(generation.generate(self._writer, request, tokens), None)
        try:
            while came := self._driver.drive(
                generation.next_tokens(self._writer, running, threading.get_ident()), None
            ):
                yield from map(writing.add, came)
        finally:
            self._driver.drive(generation.cancel(self._writer, running), None)

    def receive(self, timeout: float | None = None) -> Result | None:
        """The next results; None after the last one of a closed stream."""
        return self._driver.drive(self._writer.take(threading.get_ident()), timeout)

    def reset(self, timeout: float | None = None) -> None:
        """Begin anew at index 0, in a new epoch, when everything pushed is applied.

        Results that the daemon has not sent by then are dropped: take them first if you want them.
        """
        self._driver.drive(self._writer.reset(threading.get_ident()), timeout)

    def move(self, timeout: float | None = None) -> None:
        """Begin anew with the newest version of the model, when every result of what was pushed has been sent.

        Nothing happens when there is none newer. Refused when that has other shapes; the stream is then as it was.
        """
        self._driver.drive(self._writer.move(threading.get_ident()), timeout)

    def close(self, timeout: float | None = None) -> None:
        """End the stream: everything pushed is applied and the tail is computed. Iterate on for the last results.

        Returns when all results are here; or earlier, when there are so many that this thread has to take some first.
        """
        self._driver.drive(self._writer.close(threading.get_ident()), timeout)

    def snapshot(self, timeout: float | None = None) -> Image:
        """The stream's state as a value, when everything pushed is applied; and results not received."""
        self._driver.drive(self._writer.settle(threading.get_ident()), timeout)
        return self._client.snapshot(self.id)

    def fork(
        self, new_id: str | bytes, *, results: bool = True, buffer: int = BUFFER, timeout: float | None = None
    ) -> Stream:
        """A new stream that begins where this one is, when everything pushed is applied."""
        self._driver.drive(self._writer.settle(threading.get_ident()), timeout)
        return self._client.fork(self.id, new_id, results=results, buffer=buffer, tokenizer=self._tokenizer)

    def rollback(self, index: int, timeout: float | None = None) -> None:
        """Take back the frames from `index` on, when everything pushed is applied: `next` is `index` then.

        The stream must have been opened with a history that reaches so far. Results from there on come anew, in a new
        epoch.
        """
        self._driver.drive(self._writer.rollback(index, threading.get_ident()), timeout)

    def detach(self) -> None:
        """Give the stream up here; the daemon keeps it, to be resumed."""
        with self._driver.locked():
            self._writer.give_up()

    def info(self) -> StreamInfo:
        """The stream as the daemon sees it now."""
        return self._client.info(self.id)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        result = self.receive()
        if result is None:
            raise StopIteration
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.detach()


class Reader:
    """Results of streams that others write. Iterate it; a read of one id ends with its stream."""

    def __init__(self, client: Client, reader: CoreReader) -> None:
        self._driver = client._driver
        self._client = client
        self._reader = reader

    def receive(self, timeout: float | None = None) -> Result | None:
        """The next results; None at the end of the only stream."""
        return self._driver.drive(self._reader.take(), timeout)

    def close(self) -> None:
        """Read no more."""
        with self._driver.locked():
            self._reader.give_up()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        result = self.receive()
        if result is None:
            raise StopIteration
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Watch:
    """Results from the tap. Iterate it, in one thread."""

    def __init__(self, tap: TapSocket) -> None:
        self._tap = tap

    def receive(self, timeout: float | None = None) -> Result:
        """The next results that come."""
        until = None if timeout is None else clock.monotonic() + timeout
        while (result := self._tap.receive()) is None:
            left = None if until is None else until - clock.monotonic()
            if left is not None and left <= 0:
                raise Timeout("no results came")
            self._tap.socket.poll(None if left is None else int(left * 1000) + 1)
        return result

    def close(self) -> None:
        """Watch no more."""
        self._tap.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        return self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
