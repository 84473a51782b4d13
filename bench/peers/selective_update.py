# SPDX-License-Identifier: Apache-2.0
"""The state update of a Mamba layer for one token of each of 8192 streams, state in float32: a plain Triton kernel written
for this comparison (not that of mamba_ssm), and the same as PyTorch's own operations. `gb_s` counts the states, read and
written, and nothing else."""

import torch
import triton
import triton.language as tl
from torch.nn import functional

import peer

STREAMS, CHANNELS, STATE, BLOCK = 8192, 1536, 16, 64


@triton.jit
def update_kernel(state, x, dt, a, b, c, d, z, out, channels, N: tl.constexpr, BLOCK: tl.constexpr):
    stream, channel, n = tl.program_id(1), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, N)
    row = stream.to(tl.int64) * channels + channel
    places = row[:, None] * N + n[None, :]
    u, step = tl.load(x + row), tl.load(dt + row)
    decay = tl.exp(step[:, None] * tl.load(a + channel[:, None] * N + n[None, :]))
    h = tl.load(state + places) * decay + (step * u)[:, None] * tl.load(b + stream * N + n)[None, :]
    tl.store(state + places, h)
    y = tl.sum(h * tl.load(c + stream * N + n)[None, :], axis=1) + tl.load(d + channel) * u
    gate = tl.load(z + row)
    tl.store(out + row, y * gate * tl.sigmoid(gate))


class Work:
    def __init__(self, streams: int, channels: int) -> None:
        self.streams, self.channels = streams, channels
        self.state = torch.randn(streams, channels, STATE)
        self.x, self.z = torch.randn(streams, channels), torch.randn(streams, channels)
        self.dt = functional.softplus(torch.randn(streams, channels))
        self.a = -torch.arange(1, STATE + 1, dtype=torch.float32).repeat(channels, 1)
        self.b, self.c, self.d = torch.randn(streams, STATE), torch.randn(streams, STATE), torch.randn(channels)
        self.out = torch.empty(streams, channels)

    def triton(self) -> None:
        grid = (self.channels // BLOCK, self.streams)
        update_kernel[grid](
            self.state, self.x, self.dt, self.a, self.b, self.c, self.d, self.z, self.out, self.channels, STATE, BLOCK
        )

    def torch(self) -> None:
        self.state.mul_(torch.exp(self.dt[:, :, None] * self.a))
        self.state.add_((self.dt * self.x)[:, :, None] * self.b[:, None, :])
        y = (self.state * self.c[:, None, :]).sum(-1) + self.d * self.x
        torch.mul(y, functional.silu(self.z), out=self.out)


def check() -> None:
    """Both are the same function, before either is timed."""
    work = Work(3, 2 * BLOCK)
    state = work.state.clone()
    work.triton()
    ours, left = work.out.clone(), work.state.clone()
    work.state.copy_(state)
    work.torch()
    torch.testing.assert_close(ours, work.out, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(left, work.state, rtol=1e-4, atol=1e-4)


def main() -> None:
    check()
    work = Work(STREAMS, CHANNELS)
    moved = 2 * work.state.numel() * 4
    for name, run in (("Triton", work.triton), ("PyTorch", work.torch)):
        ms = peer.median_ms(run)
        what = f"state update {STREAMS} x {CHANNELS} x {STATE}, float32, {name}"
        peer.report(what, STREAMS, ms, gb_s=round(moved / ms * 1e-6, 1))


if __name__ == "__main__":
    torch.set_default_device("cuda")
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    main()
