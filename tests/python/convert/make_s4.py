# SPDX-License-Identifier: Apache-2.0
"""Makes the checkpoints s4-* here, and what the published code of state-spaces/s4 says of them, in double precision.

Version 4 is the repository's models/s4/s4.py and s4d.py (at 070384aa; only what needs CUDA, pykeops or Lightning taken
out); version 3 is the copy that espnet has of it, espnet2.asr.state_spaces. S4Model is example.py's. Needs torch,
einops, opt_einsum and the two on the path; espnet2's own __init__ is not needed:

    PYTHONPATH=DIRECTORY_OF_S4_PY:espnet-202511 python3 tests/python/convert/make_s4.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from espnet2.asr.state_spaces import s4 as version3
from espnet2.asr.state_spaces.model import SequenceModel
from s4 import S4Block
from s4d import S4D
from torch import nn

HERE = Path(__file__).parent
STEPS = 60


class S4Model(nn.Module):
    """example.py's, of any blocks."""

    def __init__(self, blocks: list[nn.Module], d_input: int, d_output: int, d_model: int, prenorm: bool) -> None:
        super().__init__()
        self.prenorm = prenorm
        self.encoder = nn.Linear(d_input, d_model)
        self.s4_layers = nn.ModuleList(blocks)
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in blocks)
        self.decoder = nn.Linear(d_model, d_output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time, channels) in, one row for the whole out."""
        x = self.encoder(x).transpose(-1, -2)
        for layer, norm in zip(self.s4_layers, self.norms, strict=True):
            z = norm(x.transpose(-1, -2)).transpose(-1, -2) if self.prenorm else x
            z, _ = layer(z)
            x = z + x
            if not self.prenorm:
                x = norm(x.transpose(-1, -2)).transpose(-1, -2)
        return self.decoder(x.transpose(-1, -2).mean(dim=1))


class Training(nn.Module):
    """What a checkpoint of the repository's train.py is made of: encoder, model and decoder."""

    def __init__(self, channels: tuple[int, int], width: int, **model: Any) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(channels[0], width))
        self.model = SequenceModel(width, **model)
        self.decoder = nn.ModuleList([nn.ModuleDict({"output_transform": nn.Linear(width, channels[1])})])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every frame."""
        y, _ = self.model(self.encoder(x))
        return self.decoder[0]["output_transform"](y)


def so_far(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a model that looks at a whole recording says of each of its beginnings."""
    return torch.stack([model(x[:, : t + 1]) for t in range(x.shape[1])], 1)


def transposed(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A block of (batch, channels, time)."""
    return block(x.transpose(-1, -2))[0].transpose(-1, -2)


def every(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A model of (batch, time, channels)."""
    return model(x)


def with_conjugates(without: Any) -> Any:
    """Version 3's fallback over the modes and their conjugates."""
    return lambda v, z, w: without(version3._conj(v), z, version3._conj(w))


def batch_norm_used(model: nn.Module) -> nn.Module:
    """Statistics of a training."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    return model


def undamped(block: nn.Module) -> nn.Module:
    """Modes that training drove to relu's 0, every other one."""
    with torch.no_grad():
        block.kernel.kernel.inv_w_real[:, ::2] = -0.1
    return block


S4_LAYER = {"_name_": "s4", "d_state": 8, "l_max": 64, "measure": "legs", "n_ssm": 2}
CASES: dict[str, tuple[Callable[[], nn.Module], int, Callable[[Any, Any], torch.Tensor], Callable[[Any], Any]]] = {
    # the model, its channels, how it is run, and how it is saved
    "s4-example": (
        lambda: S4Model([S4D(6, d_state=8) for _ in range(2)], 1, 2, 6, prenorm=False),
        1,
        so_far,
        lambda state: {"model": state, "acc": 10.0},
    ),
    "s4-v4-dplr": (
        lambda: S4Model([S4Block(6, d_state=8, l_max=64, n_ssm=2, rank=2) for _ in range(2)], 3, 2, 6, prenorm=True),
        3,
        so_far,
        lambda state: {"model": state},
    ),
    "s4-v4-diag": (
        lambda: S4Block(
            6,
            mode="diag",
            d_state=8,
            disc="bilinear",
            real_transform="relu",
            imag_transform="softplus",
            n_ssm=3,
            dt_transform="softplus",
            dt_tie=False,
            activation="tanh",
            final_act="silu",
        ),
        6,
        transposed,
        lambda state: state,
    ),
    "s4-v4-real": (lambda: S4Block(6, mode="s4d", d_state=4, is_real=True, final_act=None), 6, transposed, dict),
    "s4-v3-dplr": (
        lambda: Training((2, 3), 6, n_layers=2, layer=[dict(S4_LAYER)], residual="R", norm="layer", dropout=0.1),
        2,
        every,
        lambda state: {"state_dict": state, "epoch": 3},
    ),
    "s4-v3-batchnorm": (
        lambda: batch_norm_used(
            Training((2, 3), 6, layer=[dict(S4_LAYER, postact="glu")], residual="R", norm="batch", prenorm=False)
        ),
        2,
        every,
        lambda state: {"state_dict": state},
    ),
    "s4-v3-diag": (
        lambda: version3.S4(6, d_state=8, mode="diag", measure="diag-lin", disc="zoh"),
        6,
        transposed,
        lambda state: state,
    ),
    "s4-v3-relu": (
        lambda: undamped(version3.S4(6, d_state=8, l_max=64, measure="legs", real_type="relu", dt_min=0.5, dt_max=1.0)),
        6,
        transposed,
        lambda state: state,
    ),
}


def main() -> None:
    """Trained at a length longer than what is run, so that C~ is not C."""
    version3.cauchy_naive = with_conjugates(version3.cauchy_naive)
    for seed, (name, (make, channels, run, save)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = make().eval()
        x = torch.randn(1, STEPS, channels)
        with torch.no_grad():
            run(model, x[:, :4])  # sets up the kernels in single precision, as training does
            state = {key: value.detach().clone() for key, value in model.state_dict().items()}
            (HERE / name).mkdir(exist_ok=True)
            torch.save(save(state), HERE / name / "checkpoint.pt")
            expected = run(model.double(), x.double())[0]
        x[0].numpy().astype("<f4").tofile(HERE / name / "input.f32")
        expected.numpy().astype("<f4").tofile(HERE / name / "expected.f32")


if __name__ == "__main__":
    main()
