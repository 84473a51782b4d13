# SPDX-License-Identifier: Apache-2.0
"""Mamba language models in a GGUF file, as llama.cpp converts them (architecture mamba; the weights of blk.N.*).

llama.cpp stores A = -exp(A_log) instead of A_log, and the convolution's kernel without its middle dimension; the rest
has other names only. What comes out is transformers' layout.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import gguf_file, huggingface
from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..model import Model
from ..options import Options
from ..values import typed

NAME = "mamba-gguf"
HELP = "a Mamba-1 language model of llama.cpp (GGUF: F32, F16, BF16, and quantised ones, widened)"

OUTSIDE = {
    huggingface.EMBEDDING: "token_embd.weight",
    huggingface.NORM: "output_norm.weight",
    huggingface.HEAD: "output.weight",
}
INSIDE = {
    "norm.weight": "attn_norm.weight",
    "mixer.in_proj.weight": "ssm_in.weight",
    "mixer.conv1d.weight": "ssm_conv1d.weight",
    "mixer.conv1d.bias": "ssm_conv1d.bias",
    "mixer.x_proj.weight": "ssm_x.weight",
    "mixer.dt_proj.weight": "ssm_dt.weight",
    "mixer.dt_proj.bias": "ssm_dt.bias",
    "mixer.A_log": "ssm_a",
    "mixer.D": "ssm_d",
    "mixer.out_proj.weight": "ssm_out.weight",
}


def recognises(checkpoint: Checkpoint) -> bool:
    """By the architecture that the file says."""
    return checkpoint.other.get("general.architecture") == "mamba"


def convert(checkpoint: Checkpoint, options: Options) -> Model:
    """Names back to transformers', A back to its logarithm."""
    model = Model(_config(checkpoint), {})
    for name, shape in huggingface.tensors(model.config).items():
        model.tensors[name] = _tensor(checkpoint, name, shape)
    kinds = ", ".join(checkpoint.other[gguf_file.TYPES])
    model.notes.append(f"width {model.config['hidden_size']}, {model.config['vocab_size']} tokens, stored as {kinds}")
    return model


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    other, where = checkpoint.other, checkpoint.path
    for key in ("embedding_length", "block_count", "ssm.inner_size", "ssm.state_size", "ssm.conv_kernel"):
        if f"mamba.{key}" not in other:
            raise ConvertError(f"key mamba.{key} is missing", where, "llama.cpp's converter writes it")
    if typed(other, "mamba.ssm.dt_b_c_rms", False, where):
        raise ConvertError("key mamba.ssm.dt_b_c_rms: it normalises dt, B and C", where, "no layer does that here")
    return {
        "model_type": "mamba",
        "hidden_size": typed(other, "mamba.embedding_length", 1, where),
        "num_hidden_layers": typed(other, "mamba.block_count", 1, where),
        "vocab_size": len(checkpoint.take(OUTSIDE[huggingface.EMBEDDING], None, None)),
        "intermediate_size": typed(other, "mamba.ssm.inner_size", 1, where),
        "state_size": typed(other, "mamba.ssm.state_size", 1, where),
        "conv_kernel": typed(other, "mamba.ssm.conv_kernel", 1, where),
        "time_step_rank": typed(other, "mamba.ssm.time_step_rank", 1, where),
        "use_bias": False,
        "use_conv_bias": True,
        "layer_norm_epsilon": typed(other, "mamba.attention.layer_norm_rms_epsilon", 1e-5, where),
        "hidden_act": "silu",
        "tie_word_embeddings": OUTSIDE[huggingface.HEAD] not in checkpoint.tensors,
    }


def _tensor(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The tensor that transformers calls so."""
    match = re.fullmatch(r"backbone\.layers\.(\d+)\.(.*)", name)
    theirs = f"blk.{match[1]}.{INSIDE[match[2]]}" if match else OUTSIDE[name]
    tensor = checkpoint.take(theirs, *(n for i, n in enumerate(shape) if not (len(shape) == 3 and i == 1)))
    if name.endswith(".A_log"):
        if not (tensor < 0).all():
            raise ConvertError(f"tensor {theirs} has a number that is not negative", checkpoint.path, "A must decay")
        return np.log(-tensor.astype(np.float64))
    return tensor.reshape(shape)
