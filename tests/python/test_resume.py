# SPDX-License-Identifier: Apache-2.0
"""What breaks: connections, daemons, and the patience of another writer."""

from __future__ import annotations

import threading
import time

import pytest

import ssmd
from conftest import LONG, Daemon, Way, forecast, joined, noise, odd_chunks, taken


def connection__cut_again_and_again__loses_and_repeats_nothing(way: Way) -> None:
    samples = noise(30_013)
    with ssmd.connect(way.endpoint) as client:
        stream = client.open("cut", "forecast", rate=360)
        results: list[ssmd.Result] = []
        cuts = 0
        for result in stream.pipe(odd_chunks(samples, most=1500)):
            results.append(result)
            if result.first > 5000 * (cuts + 1):
                way.cut()
                cuts += 1
        assert cuts >= 3
        assert client.reconnects == cuts
    assert joined(results).tobytes() == forecast(samples).tobytes()


def connection__cut_under_many_streams__resumes_each(way: Way) -> None:
    signals = [noise(3001, seed=i) for i in range(80)]
    with ssmd.connect(way.endpoint) as client:
        streams = [client.open(f"cut/{i}", "forecast", rate=360) for i in range(80)]
        for at in range(0, 3001, 500):
            for stream, samples in zip(streams, signals, strict=True):
                stream.push(samples[at : at + 500])
            if at % 1000 == 0:
                way.cut()
        for stream in streams:
            stream.close()
        for stream, samples in zip(streams, signals, strict=True):
            assert joined(list(stream)).tobytes() == forecast(samples).tobytes()
        assert client.reconnects >= 1


def connection__cut_while_closing__still_brings_the_tail(way: Way) -> None:
    samples = noise(10_000)
    for i in range(5):
        with ssmd.connect(way.endpoint) as client:
            stream = client.open(f"tail{i}", "forecast", rate=360)
            results: list[ssmd.Result] = []
            reader = threading.Thread(target=lambda s=stream, r=results: r.extend(s))
            reader.start()
            stream.push(samples)
            cutter = threading.Timer(0.02 * i, way.cut)
            cutter.start()
            stream.close()
            reader.join(LONG)
            cutter.join()
        assert joined(results).tobytes() == forecast(samples).tobytes()


def reader__cut__goes_on_behind_what_came(daemon: Daemon, way: Way) -> None:
    samples = noise(20_000)
    with ssmd.connect(daemon.endpoint) as writing, ssmd.connect(way.endpoint) as reading:
        stream = writing.open("followed", "forecast", rate=360, results=False)
        reader = reading.read("followed", from_=0)
        results = []
        for i in range(20):
            stream.push(samples[i * 1000 : (i + 1) * 1000])
            results += taken(reader, 1000)
            if i % 5 == 2:
                way.cut()
        stream.close()
        assert reader.receive(LONG) is None
    assert joined(results).tobytes() == forecast(samples).tobytes()


def writer__kept_over_processes__resumes_where_the_daemon_stands(daemon: Daemon) -> None:
    samples = noise(3000)
    identity = bytes(range(16))
    with ssmd.connect(daemon.endpoint, writer=identity) as client:
        stream = client.open("kept", "forecast", rate=360)
        stream.push(samples[:1700])
        taken(stream, 1700)
    with ssmd.connect(daemon.endpoint, writer=identity) as client:
        stream = client.open("kept", "forecast", rate=360, resume=True, results_from=1700)
        assert (stream.created, stream.next) == (False, 1700)
        stream.push(samples[stream.next :])
        stream.close()
        after = joined(list(stream), 1700)
    assert after.tobytes() == forecast(samples)[1700:].tobytes()


def two_writers__one_stream__the_second_is_refused_or_takes_over(daemon: Daemon) -> None:
    samples = noise(2000)
    with ssmd.connect(daemon.endpoint) as one, ssmd.connect(daemon.endpoint) as two:
        first = one.open("fought", "forecast", rate=360)
        first.push(samples[:1000])
        taken(first, 1000)
        with pytest.raises(ssmd.TakenOver) as caught:
            two.open("fought", "forecast", rate=360)
        assert caught.value.code is ssmd.Code.OWNED
        second = two.open("fought", "forecast", rate=360, take_over=True, results_from=1000)
        assert second.epoch > first.epoch
        assert second.next == 1000
        with pytest.raises(ssmd.TakenOver, match="fought"):
            first.receive(LONG)
        with pytest.raises(ssmd.TakenOver, match="fought"):
            first.push([0.0])
        second.push(samples[1000:])
        second.close()
        rest = joined(list(second), 1000)
        assert rest.tobytes() == forecast(samples)[1000:].tobytes()
        assert one.ping() > 0


def daemon__restarted__says_from_where_to_send_again(own_daemon: Daemon) -> None:
    samples = noise(3000)
    with ssmd.connect(own_daemon.endpoint) as client:
        stream = client.open("lost", "forecast", rate=360)
        stream.push(samples[:2000])
        assert stream.receive(LONG)
        own_daemon.restart()
        with pytest.raises(ssmd.Lost, match=r"stream lost: .* send from frame 0") as caught:
            while stream.receive(LONG):
                pass
        assert caught.value.index == 0
        with pytest.raises(ssmd.Lost):
            stream.push(samples[2000:])
        again = client.open("lost", "forecast", rate=360)
        assert (again.created, again.next) == (True, 0)
        results = list(again.pipe([samples[caught.value.index :]]))
        assert joined(results).tobytes() == forecast(samples).tobytes()


def daemon__killed_while_a_call_waits__is_waited_for(own_daemon: Daemon) -> None:
    with ssmd.connect(own_daemon.endpoint, reply_timeout=None) as client:
        own_daemon.kill()
        answers: list[float] = []
        asking = threading.Thread(target=lambda: answers.append(client.ping()))
        asking.start()
        time.sleep(0.1)
        own_daemon.start()
        asking.join(LONG)
        assert len(answers) == 1


def daemon__gone__times_out_with_what_can_be_seen(own_daemon: Daemon) -> None:
    with ssmd.connect(own_daemon.endpoint, reply_timeout=0.3) as client:
        assert own_daemon.stop() == 0
        with pytest.raises(ssmd.Timeout, match="is ssmd running"):
            client.models()


def daemon__draining__finishes_what_was_accepted_and_says_lost_later(own_daemon: Daemon) -> None:
    samples = noise(4000)
    with ssmd.connect(own_daemon.endpoint) as client:
        stream = client.open("drained", "forecast", rate=360)
        stream.push(samples)
        while stream.applied < 4000:
            time.sleep(0.001)
        assert own_daemon.stop() == 0
        own_daemon.start()
        results = []
        with pytest.raises(ssmd.Lost):
            for result in stream:
                results.append(result)
        assert joined(results).tobytes() == forecast(samples).tobytes()
