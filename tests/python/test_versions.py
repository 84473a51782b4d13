# SPDX-License-Identifier: Apache-2.0
"""Streams of a rate of their own, and versions of models."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ssmd
from conftest import LONG, ROOT, Daemon, joined, noise, ssmrun, taken

MODEL = ROOT / "tests/golden/s4d-stack"
RATE = 8000.0  # the model was made for 16000


def open__at_a_native_rate__is_the_model_discretised_for_it(client: ssmd.Client) -> None:
    samples = noise(500)
    with pytest.raises(ssmd.Refused) as caught:
        client.open("native", "s4d-stack", rate=RATE)
    assert caught.value.code is ssmd.Code.RATE
    with client.open("native", "s4d-stack", rate=RATE, native_rate=True) as stream:
        info = stream.info()
        assert (stream.rate, info.rate, info.config_rate, info.version) == (RATE, RATE, 16000, 1)
        stream.push(samples)
        got = joined(taken(stream, 500))
    assert got.tobytes() == ssmrun(str(MODEL), samples, f"--rate={RATE}").tobytes()
    assert {model.rate for model in client.models() if model.name == "s4d-stack" and model.rate} == {RATE, 16000.0}
    with pytest.raises(ssmd.Refused) as caught:
        client.open("fixed", "gru", rate=50, native_rate=True)
    assert caught.value.code is ssmd.Code.RATE
    assert "gru" in str(caught.value)


@pytest.fixture
def shop(own_daemon: Daemon) -> Path:
    """The directory of the model `wave` of a daemon of its own."""
    models = own_daemon.directory / "models"
    shutil.copytree(MODEL, models / "wave")
    own_daemon.stop()
    conf = own_daemon.directory / "ssmd.conf"
    conf.write_text(conf.read_text().replace(f"{ROOT}/tests/golden", str(models)))
    own_daemon.start()
    return models / "wave"


def double(model: Path) -> None:
    """The model becomes one whose results are twice as large."""
    config = json.loads((model / "config.json").read_text())
    config["layers"].append({"type": "scale", "value": 2})
    (model / "config.json").write_text(json.dumps(config))


def move__after_a_reload__begins_anew_with_the_newest_version(own_daemon: Daemon, shop: Path) -> None:
    samples = noise(400)
    want = ssmrun(str(shop), samples)
    with ssmd.connect(own_daemon.endpoint) as client, client.open("moving", "wave") as stream:
        assert client.reload() == ssmd.Reload(1, 0, 0, "")
        stream.push(samples)
        stream.move(LONG)
        assert (stream.next, stream.info().version) == (400, 1)
        old = taken(stream, 400)
        double(shop)
        assert client.reload("wave") == ssmd.Reload(0, 1, 0, "")
        assert (stream.info().version, stream.info().newest_version) == (1, 2)
        epoch = stream.epoch
        stream.move(LONG)
        assert (stream.next, stream.info().version) == (0, 2)
        assert stream.epoch > epoch
        stream.push(samples)
        new = taken(stream, 400)
        (shop / "config.json").write_text("{")
        broken = client.reload("wave")
        assert broken.failed == 1
        assert "config.json" in broken.failure
        with pytest.raises(ssmd.Refused):
            client.reload("none")
    assert joined(old).tobytes() == want.tobytes()
    assert joined(new).tobytes() == (2 * want.astype(np.float32)).tobytes()


def reset__in_asyncio__takes_the_newest_version(own_daemon: Daemon, shop: Path) -> None:
    async def run() -> None:
        async with ssmd.aio.connect(own_daemon.endpoint) as client, client.open("r", "wave") as stream:
            double(shop)
            assert (await client.reload()).added == 1
            await stream.reset(LONG)
            assert (await stream.info()).version == 2
            await stream.move(LONG)
            assert (await stream.info()).version == 2

    asyncio.run(run())
