# SPDX-License-Identifier: Apache-2.0
"""Makes the checkpoints s5-* here, and what the published code of lindermanlab/S5 says of them, in double precision.

The code is the repository's s5/ssm.py, ssm_init.py, layers.py and seq_model.py (at 52fbd83a), in jax on the CPU; the
logits are what its decoder puts out. Needs jax, flax and the repository on the path:

    PYTHONPATH=S5 python3 tests/python/convert/make_s5.py
"""

from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from s5.seq_model import ClassificationModel
from s5.ssm import init_S5SSM
from s5.ssm_init import make_DPLR_HiPPO

HERE = Path(__file__).parent
STEPS, CHANNELS, WIDTH, MODES, CLASSES = 24, 2, 6, 4, 3
DEFAULTS = {"C_init": "trunc_standard_normal", "discretization": "zoh", "conj_sym": True, "clip_eigs": False}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # what the state-space models, and what the model around them is
    "s5-batchnorm": ({}, {"activation": "half_glu1", "prenorm": True, "batchnorm": True, "mode": "pool"}),
    "s5-layernorm": (
        {"discretization": "bilinear", "conj_sym": False, "clip_eigs": True, "C_init": "complex_normal"},
        {"activation": "half_glu2", "prenorm": False, "mode": "last"},
    ),
    "s5-full-glu": ({"C_init": "lecun_normal"}, {"activation": "full_glu", "prenorm": True, "mode": "last"}),
    "s5-gelu": ({}, {"activation": "gelu", "prenorm": False, "mode": "last"}),
}


def system(**options: Any) -> Any:
    """As s5/train.py makes it, with one block."""
    size = 2 * MODES if options["conj_sym"] else MODES
    Lambda, _, _, V, _ = make_DPLR_HiPPO(size)
    Lambda, V = Lambda[:MODES], V[:, :MODES]
    return init_S5SSM(
        H=WIDTH,
        P=MODES,
        Lambda_re_init=Lambda.real,
        Lambda_im_init=Lambda.imag,
        V=V,
        Vinv=V.conj().T,
        dt_min=0.001,
        dt_max=0.1,
        bidirectional=False,
        **options,
    )


def trained(tree: Any, random: np.random.Generator, clip: bool) -> Any:
    """Every number another one, so that no layer is as it was made; half the modes grow where they are clipped."""

    def other(path: Any, leaf: Any) -> Any:
        if path[-1].key == "var":
            return jnp.asarray(random.uniform(0.01, 1, leaf.shape), jnp.float32)
        if path[-1].key == "Lambda_re":
            growth = 1.0 * (np.arange(leaf.size) % 2) if clip else 0.0
            return jnp.asarray(leaf + growth + random.uniform(-0.1, 0.3, leaf.shape), jnp.float32)
        return jnp.asarray(leaf + 0.3 * random.standard_normal(leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(other, tree)


def main() -> None:
    """Parameters in single precision."""
    jax.config.update("jax_enable_x64", True)
    for seed, (name, (ssm, around)) in enumerate(CASES.items()):
        random = np.random.default_rng(seed)
        model = ClassificationModel(
            ssm=system(**DEFAULTS | ssm),
            d_output=CLASSES,
            d_model=WIDTH,
            n_layers=2,
            padded=False,
            training=False,
            **around,
        )
        x = random.standard_normal((STEPS, CHANNELS)).astype(np.float32)
        start = model.init(jax.random.PRNGKey(seed), x, None)
        variables = trained(start, random, ssm.get("clip_eigs", False))
        state = {"step": 100, "opt_state": {"0": {"count": np.int32(100)}}, **variables}
        (HERE / name).mkdir(exist_ok=True)
        (HERE / name / "checkpoint.msgpack").write_bytes(flax.serialization.to_bytes(state))
        wide = jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.float64), variables)
        logits = []
        for length in range(1, STEPS + 1):
            _, captured = model.apply(
                wide,
                x[:length].astype(np.float64),
                None,
                capture_intermediates=lambda module, _: module.name == "decoder",
                mutable=["intermediates"],
            )
            logits.append(captured["intermediates"]["decoder"]["__call__"][0])
        x.tofile(HERE / name / "input.f32")
        np.asarray(logits, "<f4").tofile(HERE / name / "expected.f32")


if __name__ == "__main__":
    main()
