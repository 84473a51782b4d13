# SPDX-License-Identifier: Apache-2.0
"""The S4D audio model of bench/cuda.c in plain PyTorch: a chunk of 160 samples of each stream, stepped sample by sample as
a live stream must be, the whole chunk captured in one CUDA graph so that no launch waits for Python. Copies to and from
the host are left out, which bench/cuda.c does not. `fit` is how many streams would take as long as the chunk lasts."""

import math

import torch
from torch.nn import functional

import peer

BLOCKS, WIDTH, MODES, CHUNK, RATE = 4, 64, 32, 160, 16000


class Block:
    def __init__(self, streams: int) -> None:
        dt = torch.exp(torch.rand(WIDTH, 1) * 4.6 - 6.9)
        a = torch.complex(torch.full((WIDTH, MODES), -0.5), math.pi * torch.arange(MODES).expand(WIDTH, MODES))
        self.a = torch.exp(dt * a)
        self.b = (self.a - 1) / a
        self.c = 2 * torch.randn(WIDTH, MODES, dtype=torch.complex64)
        self.d = torch.randn(WIDTH)
        self.mix = torch.randn(2 * WIDTH, WIDTH) / math.sqrt(WIDTH)
        self.weight, self.bias = torch.ones(WIDTH), torch.zeros(WIDTH)
        self.state = torch.zeros(streams, WIDTH, MODES, dtype=torch.complex64)

    def step(self, x: torch.Tensor) -> torch.Tensor:
        u = functional.layer_norm(x, (WIDTH,), self.weight, self.bias)
        self.state.mul_(self.a).add_(self.b * u[:, :, None])
        y = (self.c * self.state).real.sum(-1) + self.d * u
        return x + functional.glu(functional.linear(functional.gelu(y), self.mix))


def measure(streams: int) -> None:
    encoder, decoder = torch.randn(WIDTH, 1), torch.randn(1, WIDTH) / math.sqrt(WIDTH)
    blocks = [Block(streams) for _ in range(BLOCKS)]
    signal, result = torch.randn(CHUNK, streams, 1), torch.empty(CHUNK, streams, 1)

    def chunk() -> None:
        for t in range(CHUNK):
            x = functional.linear(signal[t], encoder)
            for block in blocks:
                x = block.step(x)
            result[t] = functional.linear(x, decoder)

    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        chunk()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        chunk()
    ms = peer.median_ms(graph.replay, repeats=20)
    fit = streams * (CHUNK / RATE) / (ms * 1e-3)
    peer.report(f"S4D audio model, PyTorch, CUDA graph of {CHUNK} steps", streams, ms, chunk=CHUNK, fit=round(fit))


if __name__ == "__main__":
    torch.set_default_device("cuda")
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    for n in (64, 256, 1024):
        measure(n)
