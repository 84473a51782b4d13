# SPDX-License-Identifier: Apache-2.0
"""Makes the checkpoints mamba1, mamba1-options, mamba2 and mamba2-groups, and what the published code says of them.

The model, its initialisation and save_pretrained are those of the package mamba-ssm 2.3.2; of its kernels, which are
for CUDA, this takes the package's own references in plain torch (selective_scan_ref, ssd_selective_scan, rms_norm_ref);
the short convolution, another package's, is torch's conv1d. Needs torch, transformers and einops, and the unpacked
source distribution of mamba-ssm:

    pip download --no-deps --no-build-isolation --no-binary :all: mamba-ssm==2.3.2.post1
    PYTHONPATH=mamba_ssm-2.3.2.post1 python3 tests/python/convert/make_mamba.py
"""

import sys
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
STEPS = 45
SMALL = {"d_model": 12, "n_layer": 2, "vocab_size": 29, "fused_add_norm": False}
CASES: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    "mamba1": ({"ssm_cfg": {}}, torch.float32),
    "mamba1-options": (
        {
            "ssm_cfg": {"d_state": 5, "d_conv": 3, "expand": 3, "dt_rank": 2, "bias": True, "conv_bias": False},
            "pad_vocab_size_multiple": 16,
            "tie_embeddings": False,
        },
        torch.bfloat16,
    ),
    "mamba2": ({"ssm_cfg": {"layer": "Mamba2", "d_state": 8, "headdim": 6, "use_mem_eff_path": False}}, torch.float32),
    "mamba2-groups": (
        {
            "ssm_cfg": {
                "layer": "Mamba2",
                "d_state": 4,
                "headdim": 3,
                "ngroups": 2,
                "dt_limit": [0.01, 0.09],
                "bias": True,
                "use_mem_eff_path": False,
            }
        },
        torch.float32,
    ),
}


def plain_conv1d(x: Any, weight: Any, bias: Any, activation: str, seq_idx: None) -> Any:
    """What causal_conv1d_fn computes with activation silu: (batch, channels, time), weight (channels, kernel)."""
    padded = F.pad(x, (weight.shape[1] - 1, 0))
    return F.silu(F.conv1d(padded, weight[:, None], bias, groups=len(weight)))


def published() -> Any:
    """mixer_seq_simple of mamba_ssm, its CUDA kernels replaced by its references."""
    package = types.ModuleType("mamba_ssm")  # its own __init__ wants further kernels
    spec = find_spec("mamba_ssm")
    assert spec and spec.submodule_search_locations
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["mamba_ssm"] = package
    sys.modules["selective_scan_cuda"] = types.ModuleType("selective_scan_cuda")
    from mamba_ssm.models import mixer_seq_simple
    from mamba_ssm.modules import mamba2, mamba_simple
    from mamba_ssm.ops import selective_scan_interface as scan
    from mamba_ssm.ops.triton import layer_norm, layernorm_gated, ssd_combined

    def chunk_scan(x: Any, dt: Any, A: Any, B: Any, C: Any, chunk_size: int, **more: Any) -> Any:
        assert more.pop("seq_idx") is more.pop("cu_seqlens") is None
        assert not more.pop("return_final_states") and not more.pop("return_varlen_states")
        more["dt_limit"] = tuple(more.get("dt_limit", (0.0, float("inf"))))
        return ssd_combined.ssd_selective_scan(x, dt, A, B, C, **more)

    scan.selective_scan_fn = mamba_simple.selective_scan_fn = scan.selective_scan_ref
    mamba2.mamba_chunk_scan_combined = chunk_scan
    mamba2.causal_conv1d_fn = plain_conv1d
    layer_norm.RMSNorm.forward = lambda self, x: layer_norm.rms_norm_ref(x, self.weight, None, eps=self.eps)
    mamba2.RMSNormGated.forward = lambda self, x, z: layernorm_gated.rms_norm_ref(
        x, self.weight, None, z, self.eps, self.group_size, self.norm_before_gate
    )
    return mixer_seq_simple


def main() -> None:
    """Random weights that are not as small as training's, so that every part shows in the output."""
    mixer = published()
    for seed, (name, (config, dtype)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = mixer.MambaLMHeadModel(mixer.MambaConfig(**SMALL, **config)).eval()
        with torch.no_grad():
            for key, value in model.named_parameters():
                if not key.endswith(("A_log", "dt_bias", "dt_proj.bias")):
                    value.add_(torch.randn_like(value) * 0.3)
        model.to(dtype).save_pretrained(HERE / name)
        tokens = torch.randint(29, (STEPS,))
        with torch.no_grad():
            logits = model.float()(tokens[None]).logits[0]
        tokens.numpy().astype("<i4").tofile(HERE / name / "input.i32")
        np.ascontiguousarray(logits.numpy(), "<f4").tofile(HERE / name / "expected.f32")


if __name__ == "__main__":
    main()
