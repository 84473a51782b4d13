# SPDX-License-Identifier: Apache-2.0
"""Makes the checkpoints lstm and gru here, and what torch's nn.LSTM and nn.GRU say of them. Needs torch.

lstm is what a training script keeps: the state_dict beside an object of the trainer's own class. gru is a bare
state_dict without biases, in half precision.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
STEPS = 70
CHANNELS = 3


class Forecaster(nn.Module):  # type: ignore[misc] # torch is not there when this is checked
    """An LSTM with a linear layer on every frame's output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(CHANNELS, 7, num_layers=2, dropout=0.1, batch_first=True)
        self.fc = nn.Linear(7, 2)

    def forward(self, x: Any) -> Any:
        """(batch, time, channels)."""
        return self.fc(self.lstm(x)[0])


class Memory(nn.Module):  # type: ignore[misc]
    """A GRU alone, at the root of its names."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(CHANNELS, 11, num_layers=3, bias=False, batch_first=True)

    def forward(self, x: Any) -> Any:
        """(batch, time, channels)."""
        return self.gru(x)[0]


def keep(name: str, module: nn.Module, checkpoint: Any) -> None:
    """The checkpoint, an input, and the module's output for it."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    torch.save(checkpoint, folder / "model.pt")
    signal = torch.randn(STEPS, CHANNELS) * 2
    with torch.no_grad():
        out = module.eval()(signal[None])[0]
    signal.numpy().astype("<f4").tofile(folder / "input.f32")
    np.ascontiguousarray(out.numpy(), "<f4").tofile(folder / "expected.f32")


def main() -> None:
    """Weights larger than torch's initial ones, so that gates open and close."""
    torch.manual_seed(7)
    forecaster, memory = Forecaster(), Memory()
    for module in (forecaster, memory):
        for value in module.parameters():
            value.data *= 2
    memory.half().float()  # what is kept in half precision is what is computed with
    kept = argparse.Namespace(rate=1e-3, layers=2)
    keep("lstm", forecaster, {"epoch": 3, "hyper_parameters": kept, "state_dict": forecaster.state_dict()})
    keep("gru", memory, {name: value.half() for name, value in memory.gru.state_dict().items()})


if __name__ == "__main__":
    main()
