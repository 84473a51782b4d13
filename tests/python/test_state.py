# SPDX-License-Identifier: Apache-2.0
"""States as values: what goes on from one is what would have been without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

import ssmd
from conftest import LONG, Daemon, Way, forecast, joined, noise, taken


def behind(results: list[ssmd.Result], begin: int) -> bytes:
    """All values from output index `begin` on; the first results may be some that were not known to be received."""
    first = results[0].first
    assert first <= begin
    return joined(results, first)[begin - first :].tobytes()


@pytest.fixture
def lasting() -> Iterator[Daemon]:
    """A daemon that keeps its streams over a stop in order."""
    it = Daemon()
    it.stop()
    conf = it.directory / "ssmd.conf"
    conf.write_text(conf.read_text() + f"state_dir = {it.directory}\n")
    it.start()
    yield it
    it.remove()


def snapshot__restored_under_another_id__goes_on_with_the_same_bits(client: ssmd.Client) -> None:
    samples = noise(3000)
    with client.open("snapped", "forecast", rate=360) as stream:
        stream.push(samples[:1234])
        head = joined(taken(stream, 1234))
        image = stream.snapshot(LONG)
        assert (image.index, image.epoch, len(image)) == (1234, stream.epoch, len(image.data))
        with client.restore(image, "snapped again") as again:
            assert (again.next, again.created) == (1234, False)
            results = list(again.pipe([samples[1234:]]))
        rest = list(stream.pipe([samples[1234:]]))
    assert behind(results, 1234) == forecast(samples)[1234:].tobytes()
    assert joined(rest, 1234).tobytes() == forecast(samples)[1234:].tobytes()
    assert head.tobytes() == forecast(samples)[:1234].tobytes()


def restore__of_what_is_no_image_or_exists__is_refused(client: ssmd.Client) -> None:
    with client.open("whole", "forecast", rate=360) as stream:
        image = client.snapshot("whole")
        with pytest.raises(ssmd.Refused) as caught:
            client.restore(image)
        assert caught.value.code is ssmd.Code.EXISTS
        for data in (b"no image", image.data[:-1], image.data[:200] + b"X" + image.data[201:]):
            with pytest.raises(ssmd.Refused) as caught:
                client.restore(data, "other")
            assert caught.value.code is ssmd.Code.BAD_IMAGE
        with pytest.raises(ssmd.Refused) as caught:
            client.snapshot("nobody")
        assert caught.value.code is ssmd.Code.NO_STREAM
        assert stream.info().history is None


def fork__of_a_prompt__every_child_goes_on_by_itself(client: ssmd.Client) -> None:
    prompt, tails = noise(1000), [noise(500, seed=i) for i in range(2, 6)]
    with client.open("prompt", "forecast", rate=360) as stream:
        stream.push(prompt)
        assert joined(taken(stream, 1000)).tobytes() == forecast(prompt).tobytes()
        for i, tail in enumerate(tails):
            with stream.fork(f"child {i}") as child:
                results = list(child.pipe([tail]))
            whole = forecast(np.concatenate([prompt, tail]))
            assert joined(results, 1000).tobytes() == whole[1000:].tobytes()


def rollback__within_the_history__computes_anew(client: ssmd.Client) -> None:
    samples = noise(3000)
    with client.open("back", "forecast", rate=360, history=(64, 500)) as stream:
        history = stream.info().history
        assert history and (history.interval, history.depth, history.oldest) == (64, 500, 0)
        stream.push(samples[:2000])
        before = joined(taken(stream, 2000))
        epoch = stream.epoch
        stream.rollback(1700, LONG)
        assert stream.next == 1700
        assert stream.epoch > epoch
        results = list(stream.pipe([samples[1700:]]))
    assert joined(results, 1700).tobytes() == forecast(samples)[1700:].tobytes()
    assert before.tobytes() == forecast(samples)[:2000].tobytes()


def rollback__beyond_the_history__is_refused_and_the_stream_goes_on(client: ssmd.Client) -> None:
    samples = noise(1000)
    with client.open("far back", "forecast", rate=360, history=(64, 64)) as stream:
        stream.push(samples[:500])
        with pytest.raises(ssmd.Refused) as caught:
            stream.rollback(100, LONG)
        assert caught.value.code is ssmd.Code.TOO_OLD
        results = list(stream.pipe([samples[500:]]))
    assert joined(results).tobytes() == forecast(samples).tobytes()


def connection__cut_amid_states__asks_again(way: Way) -> None:
    samples = noise(2000)
    with ssmd.connect(way.endpoint) as client:
        stream = client.open("cut amid", "forecast", rate=360, history=(64, 300))
        stream.push(samples[:1000])
        taken(stream, 1000)
        way.cut()
        image = stream.snapshot(LONG)
        way.cut()
        stream.rollback(900, LONG)
        way.cut()
        again = client.restore(image, "cut amid too")
        way.cut()
        for it, begin in ((stream, 900), (again, 1000)):
            it.push(samples[begin:])
            it.close(LONG)
            assert behind(list(it), begin) == forecast(samples)[begin:].tobytes()


def daemon__stopped_in_order_with_a_state_directory__loses_nothing(lasting: Daemon) -> None:
    samples = noise(6000)
    with ssmd.connect(lasting.endpoint) as client:
        assert client.daemon.durability == 1
        stream = client.open("lasting", "forecast", rate=360)
        results: list[ssmd.Result] = []
        for at in range(0, 6000, 1000):
            stream.push(samples[at : at + 1000])
            if at in (1000, 4000):
                assert lasting.stop() == 0
                lasting.start()
            results += taken(stream, 500)
        stream.close(LONG)
        results += list(stream)
        assert client.reconnects == 2
        assert joined(results).tobytes() == forecast(samples).tobytes()
        lasting.restart()  # a crash loses what a stop keeps
        with pytest.raises(ssmd.Refused):
            client.info("lasting")


def aio__snapshot_restore_fork_and_rollback__do_the_same(daemon: Daemon) -> None:
    samples = noise(1500)

    async def run() -> None:
        async with ssmd.aio.connect(daemon.endpoint) as client:
            stream = await client.open("aio", "forecast", rate=360, history=(64, 200))
            await stream.push(samples[:1000])
            got = 0
            while got < 1000:
                result = await stream.receive(LONG)
                assert result
                got += len(result)
            fork = await stream.fork("aio fork")
            image = await stream.snapshot()
            restored = await client.restore(image, "aio restored")
            await stream.rollback(950)
            assert stream.next == 950
            for it, begin in ((stream, 950), (fork, 1000), (restored, 1000)):
                results = [r async for r in it.pipe([samples[begin:]])]
                assert behind(results, begin) == forecast(samples)[begin:].tobytes()

    asyncio.run(run())
