# SPDX-License-Identifier: Apache-2.0
"""What the yardsticks share: medians of runs on the device, and lines as the other benchmarks print them."""

import json
import os
import statistics

import torch


def device_name() -> str:
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} (sm_{major}{minor}), torch {torch.__version__}, CUDA {torch.version.cuda}"


def median_ms(run, repeats: int = 100, seconds: float = 3.0) -> float:
    """Of many runs, each timed alone by the device's events, after a warm-up."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(5):
        run()
    times: list[float] = []
    while len(times) < repeats and (len(times) < 5 or sum(times) < seconds * 1e3):
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def report(what: str, streams: int, ms: float, **more: float) -> None:
    line = {"bench": "cuda-peer", "what": what, "streams": streams, "ms": round(ms, 4), **more}
    line |= {"device": device_name(), "commit": os.environ.get("COMMIT", "unknown")}
    print(json.dumps(line), flush=True)
