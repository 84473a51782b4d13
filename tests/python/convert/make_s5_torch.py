# SPDX-License-Identifier: Apache-2.0
"""Makes the checkpoints s5-torch* here, and what the package s5-pytorch says of them.

Needs torch and s5-pytorch 0.2.1:

    python3 tests/python/convert/make_s5_torch.py
"""

from collections.abc import Callable
from pathlib import Path

import torch
from s5 import S5, S5Block
from torch import nn

HERE = Path(__file__).parent
STEPS, WIDTH = 40, 6
CASES: dict[str, Callable[[], nn.Module]] = {
    "s5-torch": lambda: S5(WIDTH, 8, bcInit="complex_normal"),
    "s5-torch-blocks": lambda: nn.Sequential(
        S5Block(WIDTH, 8, False, bcInit="complex_normal"),
        S5Block(WIDTH, 8, False, bcInit="complex_normal", ff_mult=2, glu=False),
    ),
}


def main() -> None:
    """Random weights beside those that it starts with."""
    for seed, (name, make) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = make().eval()
        x = torch.randn(1, STEPS, WIDTH)
        with torch.no_grad():
            for key, value in model.named_parameters():
                if not key.endswith(("Lambda", "log_step")):
                    value.add_(0.3 * torch.randn_like(value))
            expected = model(x)[0]
        (HERE / name).mkdir(exist_ok=True)
        torch.save(model.state_dict(), HERE / name / "checkpoint.pt")
        x[0].numpy().astype("<f4").tofile(HERE / name / "input.f32")
        expected.numpy().astype("<f4").tofile(HERE / name / "expected.f32")


if __name__ == "__main__":
    main()
