# SPDX-License-Identifier: Apache-2.0
"""The asyncio shell: the same core, so what is tested here is the waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import ssmd
from conftest import LONG, Daemon, Floats, Way, forecast, joined, noise, odd_chunks
from ssmd import aio


def streams__fifty_at_once__keep_their_own_bits(daemon: Daemon) -> None:
    signals = [noise(4001, seed=i) for i in range(50)]

    async def one(client: aio.Client, i: int) -> Floats:
        async with client.open(f"aio/{i}", "forecast", rate=360) as stream:
            return joined([result async for result in stream.pipe(odd_chunks(signals[i], seed=i))])

    async def run() -> list[Floats]:
        async with aio.connect(daemon.endpoint) as client, asyncio.timeout(LONG):
            return await asyncio.gather(*(one(client, i) for i in range(50)))

    for samples, values in zip(signals, asyncio.run(run()), strict=True):
        assert values.tobytes() == forecast(samples).tobytes()


def push__and_take__in_two_tasks_over_a_way_that_is_cut(way: Way) -> None:
    samples = noise(40_001)

    async def write(stream: aio.Stream) -> None:
        for i, chunk in enumerate(odd_chunks(samples, most=2500)):
            if i % 9 == 4:
                way.cut()
            await stream.push(chunk)
        await stream.close()

    async def run() -> list[ssmd.Result]:
        async with aio.connect(way.endpoint) as client, asyncio.timeout(LONG):
            stream = await client.open("aio-cut", "forecast", rate=360, buffer=1 << 14)
            writing = asyncio.create_task(write(stream))
            results = [result async for result in stream]
            await writing
            assert client.reconnects >= 1
            return results

    assert joined(asyncio.run(run())).tobytes() == forecast(samples).tobytes()


def push__cancelled__may_be_gone_on_with(daemon: Daemon) -> None:
    samples = noise(60_000)

    async def run() -> None:
        async with aio.connect(daemon.endpoint) as client, asyncio.timeout(LONG):
            stream = await client.open("aio-cancelled", "forecast", rate=360)
            stream._writer.taker = object()  # somebody else will take the results
            pushing = asyncio.create_task(stream.push(samples))
            while stream.next == 0:
                await asyncio.sleep(0)
            pushing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pushing
            assert 0 < stream.next < 60_000
            results = [result async for result in stream.pipe([samples[stream.next :]])]
            assert joined(results).tobytes() == forecast(samples).tobytes()

    asyncio.run(run())


def push__results_not_taken__says_so(daemon: Daemon) -> None:
    async def run() -> None:
        async with aio.connect(daemon.endpoint) as client, asyncio.timeout(LONG):
            stream = await client.open("aio-full", "forecast", rate=360)
            with pytest.raises(ssmd.ResultsWaiting):
                await stream.push(noise(60_000))
            stream.detach()
            with pytest.raises(ssmd.Closed):
                await stream.push([0.0])

    asyncio.run(run())


def pipe__asynchronous_chunks__and_reset_read_watch_and_questions(daemon: Daemon) -> None:
    samples = noise(3000)

    async def live() -> AsyncIterator[Floats]:
        for chunk in odd_chunks(samples):
            await asyncio.sleep(0)
            yield chunk

    async def run() -> None:
        async with aio.connect(daemon.endpoint) as client, asyncio.timeout(LONG):
            stream = await client.open("aio-live", "forecast", rate=360)
            await stream.push([1.0, 2.0])
            assert await stream.receive(LONG)
            await stream.reset()
            async with client.watch(prefix="aio-live") as watch, client.read("aio-live") as reader:
                first = asyncio.create_task(anext(aiter(watch)))
                results = [r async for r in stream.pipe(live()) if r.epoch == stream.epoch]
                read = [r async for r in reader if r.epoch == stream.epoch]
                assert (await first).id == "aio-live"
            assert joined(results).tobytes() == joined(read).tobytes() == forecast(samples).tobytes()
            assert "forecast" in [model.name for model in await client.models()]
            assert await client.list("aio-live") == []
            assert (await client.stats())["frames"].value > 0
            assert await client.ping() > 0
            with pytest.raises(ssmd.Refused) as caught:
                await client.open("x", "nothing")
            assert caught.value.code is ssmd.Code.NO_MODEL
            with pytest.raises(ssmd.Refused):
                await client.info("nothing")

    asyncio.run(run())


def waiting__timed_out_or_closed__wakes(daemon: Daemon) -> None:
    async def run() -> None:
        client = await aio.connect(daemon.endpoint)
        stream = await client.open("aio-wait", "forecast", rate=360)
        with pytest.raises(ssmd.Timeout):
            await stream.receive(0.01)
        waiting = asyncio.create_task(stream.receive())
        await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(ssmd.Closed):
            await waiting

    asyncio.run(run())


def connect__nobody_there__says_what_is_missing() -> None:
    async def run() -> None:
        with pytest.raises(ssmd.Unreachable, match="no such socket"):
            await aio.connect("ipc:///nowhere/ssmd.sock", timeout=0.2)

    asyncio.run(run())


def daemon__restarted__says_from_where_to_send_again(own_daemon: Daemon) -> None:
    async def run() -> None:
        async with aio.connect(own_daemon.endpoint) as client, asyncio.timeout(LONG):
            stream = await client.open("aio-lost", "forecast", rate=360)
            await stream.push(noise(100))
            await stream.receive()
            await asyncio.to_thread(own_daemon.restart)
            with pytest.raises(ssmd.Lost) as caught:
                async for _ in stream:
                    pass
            assert caught.value.index == 0

    asyncio.run(run())
