# SPDX-License-Identifier: Apache-2.0
"""Makes the GGUF files gguf-q8 and gguf-half here, and what transformers says of their weights.

The weights are written by the gguf package, under the names and in the form of llama.cpp's converter
(convert_hf_to_gguf.py, MambaModel), read back, widened by the gguf package, and computed with in MambaForCausalLM's
plain path. Needs torch, transformers and gguf.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import MambaConfig, MambaForCausalLM

HERE = Path(__file__).parent
STEPS = 40
VOCAB, DIM, INNER, STATE, RANK, LAYERS, KERNEL = 40, 32, 64, 4, 2, 2, 4
Q8, F16, BF16, F32 = (getattr(gguf.GGMLQuantizationType, name) for name in ("Q8_0", "F16", "BF16", "F32"))

# By what a matrix is; vectors and what has short rows stay F32, as in llama.cpp.
CASES = {
    "gguf-q8": ({"token_embd": Q8, "ssm_in": Q8, "ssm_x": Q8, "ssm_out": Q8}, True),
    "gguf-half": ({"token_embd": F16, "output": BF16, "ssm_in": BF16, "ssm_x": F16, "ssm_out": BF16}, False),
}
NAMES = {
    "backbone.embeddings": "token_embd",
    "backbone.norm_f": "output_norm",
    "lm_head": "output",
    "norm": "attn_norm",
    "mixer.in_proj": "ssm_in",
    "mixer.conv1d": "ssm_conv1d",
    "mixer.x_proj": "ssm_x",
    "mixer.dt_proj": "ssm_dt",
    "mixer.A_log": "ssm_a",
    "mixer.D": "ssm_d",
    "mixer.out_proj": "ssm_out",
}


def their_name(name: str) -> str:
    """What llama.cpp calls a tensor of transformers."""
    part, _, suffix = name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
    block = part.startswith("backbone.layers.")
    _, _, layer, inner = part.split(".", 3) if block else ("", "", "", part)
    return (f"blk.{layer}." if block else "") + NAMES[inner] + (f".{suffix}" if suffix else "")


def make(name: str, kinds: dict[str, Any], tied: bool) -> None:
    """One file, an input, and the output for it."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    config = MambaConfig(
        vocab_size=VOCAB,
        hidden_size=DIM,
        state_size=STATE,
        num_hidden_layers=LAYERS,
        conv_kernel=KERNEL,
        time_step_rank=RANK,
        layer_norm_epsilon=1e-3,
        tie_word_embeddings=tied,
        use_cache=False,
    )
    model = MambaForCausalLM(config).eval()
    writer = gguf.GGUFWriter(folder / "model.gguf", "mamba")
    writer.add_name(name)
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(LAYERS)
    writer.add_ssm_conv_kernel(KERNEL)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-3)
    writer.add_ssm_dt_b_c_rms(False)
    writer.add_token_list([f"token{n}" for n in range(VOCAB)])
    weights = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and tied:
            continue
        value = value + torch.randn_like(value) * 0.3
        theirs = their_name(key)
        kind = kinds.get(theirs.removesuffix(".weight").rpartition(".")[2], F32)
        array = value.numpy()
        if key.endswith("A_log"):
            array = -np.exp(array)
        elif key.endswith("conv1d.weight"):
            array = array[:, 0]
        stored = gguf.quantize(array, kind)
        writer.add_tensor(theirs, stored, raw_dtype=kind)
        back = gguf.dequantize(stored, kind).reshape(array.shape)
        if key.endswith("A_log"):
            back = np.log(-back)
        weights[key] = torch.from_numpy(np.array(back, np.float32).reshape(value.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if tied:
        weights["lm_head.weight"] = weights["backbone.embeddings.weight"]
    model.load_state_dict(weights)
    tokens = torch.randint(VOCAB, (STEPS,))
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    tokens.numpy().astype("<i4").tofile(folder / "input.i32")
    np.ascontiguousarray(logits.numpy(), "<f4").tofile(folder / "expected.f32")


def main() -> None:
    """Both."""
    torch.manual_seed(11)
    for name, (kinds, tied) in CASES.items():
        make(name, kinds, tied)


if __name__ == "__main__":
    main()
