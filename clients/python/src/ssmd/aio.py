# SPDX-License-Identifier: Apache-2.0
"""The asyncio shell: the names of `ssmd`, awaited.

    async with ssmd.aio.connect() as client, client.open("ecg", "forecast", rate=360) as stream:
        async for result in stream.pipe(chunks):
            ...

Everything runs in the event loop of `connect`; there is no thread but ZeroMQ's own.
"""

from __future__ import annotations

import asyncio
import builtins
import time as clock
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

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
from .errors import Timeout, Unreachable
from .values import Counter, DaemonInfo, Image, ModelInfo, Reload, Result, StreamInfo, Token, id_bytes

__all__ = ["Client", "Reader", "Stream", "Watch", "connect"]

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")


class _Managed(Protocol):
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


M = TypeVar("M", bound=_Managed)


class Pending(Generic[M]):
    """What is being opened: await it, or enter it with `async with`."""

    def __init__(self, coroutine: Coroutine[Any, Any, M]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, None, M]:
        return self._coroutine.__await__()

    async def __aenter__(self) -> M:
        self._opened = await self._coroutine
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(kind, error, at)


class _Driver:
    """The core, and its sockets in the event loop."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._loop = asyncio.get_running_loop()
        self._pump = Pump(core, self._watch)
        self._is_scheduled = self._is_stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self.wake()

    async def drive(self, operation: Operation[T], timeout: float | None) -> T:
        """Run an operation to its end."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    signal = next(operation)
                    woken = asyncio.Event()
                    signal.add(woken.set)
                    self.wake()
                    try:
                        await woken.wait()
                    finally:
                        signal.discard(woken.set)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except TimeoutError:
            raise self._late() from None
        finally:
            operation.close()
            self.wake()

    def wake(self) -> None:
        """The core may have something to send."""
        if not self._is_scheduled and not self._is_stopped:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def stop(self) -> None:
        """Say farewell."""
        if not self._is_stopped:
            self._is_stopped = True
            self._pump.close()
            if self._timer:
                self._timer.cancel()

    def _late(self) -> Timeout:
        core = self.core
        return Timeout("it takes longer than it was given" if core.is_up else explain_silence(core.endpoint, core.why))

    def _watch(self, socket: zmq.Socket[bytes], is_new: bool) -> None:
        fd = socket.FD
        if is_new:
            self._loop.add_reader(fd, self.wake)
        else:
            self._loop.remove_reader(fd)

    def _turn(self) -> None:
        self._is_scheduled = False
        if self._is_stopped:
            return
        if self._pump.step():
            self.wake()
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(self.core.due(clock.monotonic()), self.wake)


def connect(
    endpoint: str | None = None,
    *,
    name: str = "ssmd.py",
    writer: bytes | None = None,
    timeout: float | None = 5.0,
    reply_timeout: float | None = TIMEOUT,
) -> Pending[Client]:
    """As `ssmd.connect`: await it, or enter it with `async with`."""
    return Pending(_connect(endpoint, name, writer, timeout, reply_timeout))


async def _connect(
    endpoint: str | None, name: str, writer: bytes | None, timeout: float | None, reply_timeout: float | None
) -> Client:
    driver = _Driver(new_core(endpoint, name, writer))
    try:
        await driver.drive(driver.core.connect(), timeout)
    except Timeout as late:
        driver.stop()
        raise Unreachable(str(late)) from None
    except BaseException:
        driver.stop()
        raise
    return Client(driver, reply_timeout)


class Client:
    """As `ssmd.Client`."""

    def __init__(self, driver: _Driver, reply_timeout: float | None) -> None:
        self._driver = driver
        self._timeout = reply_timeout

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
    ) -> Pending[Stream]:
        """As `ssmd.Client.open`: await it, or enter it with `async with`."""
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

        async def opened() -> Stream:
            return Stream(self, await self._ask(open_writer(self._driver.core, message, buffer)), text)

        return Pending(opened())

    def read(
        self,
        id: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        from_: int | None = None,
        buffer: int = BUFFER,
    ) -> Pending[Reader]:
        """As `ssmd.Client.read`: await it, or enter it with `async with`."""
        message = read_message(id, prefix, from_)

        async def opened() -> Reader:
            return Reader(self, await self._ask(open_reader(self._driver.core, message, buffer)))

        return Pending(opened())

    def watch(self, id: str | bytes | None = None, *, prefix: str | bytes | None = None) -> Watch:
        """As `ssmd.Client.watch`."""
        one_of(id, prefix)
        return Watch(TapSocket(self.daemon, id_bytes(id) if id is not None else None, id_bytes(prefix or b"")))

    async def snapshot(self, id: str | bytes) -> Image:
        """The state of any stream, whoever writes it: after every frame that the daemon has accepted."""
        return await self._ask(state.snapshot(self._driver.core, id_bytes(id)))

    async def restore(
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
        info = await self._ask(state.restore(self._driver.core, image_bytes(image), name))
        return await self._resume(info, results, buffer, tokenizer)

    async def fork(
        self,
        id: str | bytes,
        new_id: str | bytes,
        *,
        results: bool = True,
        buffer: int = BUFFER,
        tokenizer: TokenizerLike | None = None,
    ) -> Stream:
        """A new stream of the state of any stream, at the same index."""
        info = await self._ask(state.fork(self._driver.core, id_bytes(id), id_bytes(new_id)))
        return await self._resume(info, results, buffer, tokenizer)

    async def _resume(self, info: StreamInfo, results: bool, buffer: int, tokenizer: TokenizerLike | None) -> Stream:
        text = load(tokenizer)
        return Stream(
            self, await self._ask(open_writer(self._driver.core, resume_message(info, results), buffer)), text
        )

    async def models(self) -> builtins.list[ModelInfo]:
        """What the daemon offers."""
        return list((await self._ask(query.daemon(self._driver.core))).models)

    async def list(self, prefix: str | bytes = "") -> builtins.list[StreamInfo]:
        """The streams there are, in byte order of their ids."""
        return await self._ask(query.list_streams(self._driver.core, id_bytes(prefix)))

    async def info(self, id: str | bytes) -> StreamInfo:
        """One stream."""
        return await self._ask(query.info(self._driver.core, id_bytes(id)))

    async def stats(self) -> dict[str, Counter]:
        """The daemon's counters, by name."""
        return {counter.name: counter for counter in await self._ask(query.stats(self._driver.core))}

    async def reload(self, model: str | None = None) -> Reload:
        """As `ssmd.Client.reload`."""
        return await self._ask(query.reload(self._driver.core, model))

    async def ping(self) -> float:
        """Seconds to the daemon and back."""
        began = clock.monotonic()
        await self._ask(query.ping(self._driver.core))
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

    async def close(self) -> None:
        """Say goodbye. The daemon keeps the streams."""
        self._driver.stop()

    async def _ask(self, operation: Operation[T]) -> T:
        return await self._driver.drive(operation, self._timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class Stream(StreamFacts):
    """As `ssmd.Stream`."""

    def __init__(self, client: Client, writer: Writer, tokenizer: Tokenizer | None) -> None:
        self._client = client
        self._driver = client._driver
        self._writer = writer
        self._tokenizer = tokenizer

    async def push(
        self, samples: ArrayLike, *, time: int | None = None, backfill: bool = False, timeout: float | None = None
    ) -> None:
        """As `ssmd.Stream.push`; raises ResultsWaiting when this task alone takes results and has not."""
        operation = self._writer.push(self._samples(samples, time, backfill), asyncio.current_task())
        await self._driver.drive(operation, timeout)

    async def pipe(
        self, chunks: Iterable[ArrayLike] | AsyncIterator[ArrayLike], *, backfill: bool = False
    ) -> AsyncIterator[Result]:
        """As `ssmd.Stream.pipe`; chunks may come from an asynchronous iterator."""
        async for chunk in _each(chunks):
            samples = self._samples(chunk, None, backfill)
            while result := await self._driver.drive(self._writer.exchange(samples, asyncio.current_task()), None):
                yield result
        await self.close()
        async for result in self:
            yield result

    async def generate(
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
    ) -> AsyncGenerator[Token, None]:
        """As `ssmd.Stream.generate`. Close what it gives (contextlib.aclosing) when you leave the loop early."""
        request = generate_message(
            maximum, encode_stop(self._tokenizer, stop), recent, temperature, top_k, top_p, min_p,
            repetition_penalty, repetition_window, seed,
        )  # fmt: skip
        tokens = encode(self._tokenizer, prompt, self.next == 0)
        writing = Writing(self._tokenizer, tokens)
        running = await self._driver.drive(generation.generate(self._writer, request, tokens), None)
        try:
            while came := await self._driver.drive(
                generation.next_tokens(self._writer, running, asyncio.current_task()), None
            ):
                for token in came:
                    yield writing.add(token)
        finally:
            await self._driver.drive(generation.cancel(self._writer, running), None)

    async def receive(self, timeout: float | None = None) -> Result | None:
        """The next results; None after the last one of a closed stream."""
        return await self._driver.drive(self._writer.take(asyncio.current_task()), timeout)

    async def reset(self, timeout: float | None = None) -> None:
        """As `ssmd.Stream.reset`."""
        await self._driver.drive(self._writer.reset(asyncio.current_task()), timeout)

    async def move(self, timeout: float | None = None) -> None:
        """As `ssmd.Stream.move`."""
        await self._driver.drive(self._writer.move(asyncio.current_task()), timeout)

    async def close(self, timeout: float | None = None) -> None:
        """As `ssmd.Stream.close`; returns early when this task has to take results first."""
        await self._driver.drive(self._writer.close(asyncio.current_task()), timeout)

    async def snapshot(self, timeout: float | None = None) -> Image:
        """The stream's state as a value, when everything pushed is applied; and results not received."""
        await self._driver.drive(self._writer.settle(asyncio.current_task()), timeout)
        return await self._client.snapshot(self.id)

    async def fork(
        self, new_id: str | bytes, *, results: bool = True, buffer: int = BUFFER, timeout: float | None = None
    ) -> Stream:
        """A new stream that begins where this one is, when everything pushed is applied."""
        await self._driver.drive(self._writer.settle(asyncio.current_task()), timeout)
        return await self._client.fork(self.id, new_id, results=results, buffer=buffer, tokenizer=self._tokenizer)

    async def rollback(self, index: int, timeout: float | None = None) -> None:
        """Take back the frames from `index` on, when everything pushed is applied: `next` is `index` then.

        The stream must have been opened with a history that reaches so far. Results from there on come anew, in a new
        epoch.
        """
        await self._driver.drive(self._writer.rollback(index, asyncio.current_task()), timeout)

    def detach(self) -> None:
        """Give the stream up here; the daemon keeps it, to be resumed."""
        self._writer.give_up()
        self._driver.wake()

    async def info(self) -> StreamInfo:
        """The stream as the daemon sees it now."""
        return await self._client.info(self.id)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        result = await self.receive()
        if result is None:
            raise StopAsyncIteration
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            self.detach()


class Reader:
    """As `ssmd.Reader`."""

    def __init__(self, client: Client, reader: CoreReader) -> None:
        self._driver = client._driver
        self._reader = reader

    async def receive(self, timeout: float | None = None) -> Result | None:
        """The next results; None at the end of the only stream."""
        return await self._driver.drive(self._reader.take(), timeout)

    async def close(self) -> None:
        """Read no more."""
        self._reader.give_up()
        self._driver.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        result = await self.receive()
        if result is None:
            raise StopAsyncIteration
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class Watch:
    """As `ssmd.Watch`; by one task at a time."""

    def __init__(self, tap: TapSocket) -> None:
        self._tap = tap

    async def receive(self, timeout: float | None = None) -> Result:
        """The next results that come."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                while (result := self._tap.receive()) is None:
                    readable = asyncio.Event()
                    loop.add_reader(self._tap.socket.FD, readable.set)
                    try:
                        await readable.wait()
                    finally:
                        loop.remove_reader(self._tap.socket.FD)
        except TimeoutError:
            raise Timeout("no results came") from None
        return result

    async def close(self) -> None:
        """Watch no more."""
        self._tap.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        return await self.receive()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


async def _each(chunks: Iterable[ArrayLike] | AsyncIterator[ArrayLike]) -> AsyncIterator[ArrayLike]:
    if isinstance(chunks, AsyncIterator):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
