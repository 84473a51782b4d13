# SPDX-License-Identifier: Apache-2.0
"""Makes the checkpoints clean-umamba* here, and what the published network of lab-emi/CleanUMamba says of them.

The network is the repository's src/network (at daa4c0ca); its Mamba blocks are the package mamba-ssm's with that
package's references in place of its CUDA kernels (make_mamba.py), its S4 the repository's copy of make_s4.py's version
4. Each clip's normalisation is off and a fixed gain in its place, and zeros follow the clip, until no output that is
kept is affected by its end. Needs what make_mamba.py and make_s4.py need, and the repository:

    PYTHONPATH=CleanUMamba:mamba_ssm-2.3.2.post1:DIRECTORY_OF_S4_PY python3 tests/python/convert/make_clean_umamba.py
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from make_mamba import published

HERE = Path(__file__).parent
STEPS, TAIL, GAIN = 203, 256, 4.0
SMALL = {"channels_H": 4, "max_H": 6, "encoder_n_layers": 3, "tsfm_n_layers": 2, "tsfm_n_head": 2}
SMALL |= {"tsfm_d_model": 8, "tsfm_d_inner": 16}
CASES: dict[str, dict[str, Any]] = {
    "clean-umamba": {},
    "clean-umamba-2": {"mamba_v2": True, "encoder_groups": 2, "normalize_input": False},
    "clean-umamba-s4": {"mamba_s4": True},
}


def main() -> None:
    """As the training saves it, in single precision."""
    mixer = published()
    mixer.create_block = partial(mixer.create_block, d_intermediate=0)
    from src.network.CleanUMamba import CleanUMamba

    for seed, (name, config) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        config = SMALL | config
        model = CleanUMamba(**config).eval()
        with torch.no_grad():
            for key, value in model.named_parameters():
                if key.endswith((".weight", ".bias")):
                    value.add_(0.2 * torch.randn_like(value))
            x = torch.randn(1, 1, STEPS)
            gain = GAIN if model.normalize_input else 1.0
            model.normalize_input = False
            clip = torch.nn.functional.pad(gain * x, (0, TAIL))
            model(clip)  # sets up S4's kernels
            state = {key: value.detach().clone() for key, value in model.state_dict().items()}
            expected = model(clip)[0, 0, :STEPS] / gain
        (HERE / name).mkdir(exist_ok=True)
        saved = {"iter": 3, "network_config": config, "model_state_dict": state, "optimizer_state_dict": {"state": {}}}
        torch.save(saved, HERE / name / "checkpoint.pkl")
        x[0, 0].numpy().astype("<f4").tofile(HERE / name / "input.f32")
        expected.numpy().astype("<f4").tofile(HERE / name / "expected.f32")


if __name__ == "__main__":
    main()
