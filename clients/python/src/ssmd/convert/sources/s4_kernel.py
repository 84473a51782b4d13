# SPDX-License-Identifier: Apache-2.0
"""The state-space kernels of state-spaces/s4, by any version's names, as a continuous system and a layer of ours.

| form    | written by                   | tensors                                              | A             |
|---------|------------------------------|------------------------------------------------------|---------------|
| minimal | models/s4/s4d.py             | log_dt, log_A_real, A_imag, C                        | -exp + i imag |
| v4      | SSMKernelDiag, SSMKernelDPLR | inv_dt, A_real, A_imag, B, C; and P, l_kernel        | -f(re) - i im |
| v3 DPLR | SSKernelNPLR                 | log_dt, inv_w_real or log_w_real, w_imag, B, C, P, L | -f(re) + i im |
| v3 diag | SSKernelDiag                 | log_dt, inv_A_real, A_imag, B, C                     | -f(re) + i im |

f and dt's own function are options of the training and not in a checkpoint. A, B and P of n_ssm systems serve H
channels, channel h that of h mod n_ssm. With P, the stored C is C~ = C (I - Abar^L) once a kernel of length L > 0 was
set up (l_kernel, in version 3 L), and C is solved for in double precision. Without P, a dt for each mode goes into A
and B, which is the same system.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..graph import Graph, Layer, complexes, pairs
from ..options import Options

Array = NDArray[Any]
Shape = tuple[int | None, ...]

RELU_FLOOR = 1e-4  # that version 4, and version 3's diagonal kernel, add to relu
TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "none": np.array,
    "relu": lambda x: np.maximum(x, 0) + RELU_FLOOR,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
}
DISCRETIZATIONS = ("zoh", "bilinear")


@dataclass
class Kernel:
    """The continuous system of H channels with N stored modes each, everything in double precision."""

    dt: Array  # (H, 1) or (H, N)
    A: Array  # (H, N)
    B: Array  # (H, N)
    C: Array  # (H, N)
    P: Array | None  # (rank, H, N)
    discretization: str

    @property
    def channels(self) -> int:
        """H."""
        return int(self.A.shape[0])


def is_at(checkpoint: Checkpoint, prefix: str) -> bool:
    """Whether a block's kernel is there."""
    return any(f"{prefix}{kernel}" in checkpoint.tensors for kernel in ("kernel.C", "kernel.kernel.C"))


def read(checkpoint: Checkpoint, prefix: str, options: Options, outputs: int) -> Kernel:
    """The kernel of the block at `prefix`, which puts out `outputs` signals for each channel (the rows of its D)."""
    at = f"{prefix}kernel." if f"{prefix}kernel.C" in checkpoint.tensors else f"{prefix}kernel.kernel."
    if f"{at}log_A_real" in checkpoint.tensors:
        return _minimal(checkpoint, at)
    if f"{at}inv_dt" in checkpoint.tensors:
        return _v4(checkpoint, at, options, outputs)
    return _v3(checkpoint, at, options, outputs)


def layer(graph: Graph, name: str, kernel: Kernel, D: Array) -> Layer:
    """An s4 layer where there is a low-rank part, otherwise s4d."""
    H, N = kernel.A.shape
    keys = {"channels": H, "state": 2 * N, "discretization": kernel.discretization}
    if kernel.P is not None:
        tensors = {part: pairs(getattr(kernel, part)) for part in "ABCP"}
        tensors |= {"log_dt": np.log(kernel.dt[:, 0]), "D": D}
        return graph.add("s4", name, tensors, rank=kernel.P.shape[0], **keys)
    dt, A, B = kernel.dt, kernel.A, kernel.B
    if dt.shape[1] > 1:
        dt, A, B = np.ones((H, 1)), A * dt, B * dt
    tensors = {
        "log_dt": np.log(dt[:, 0]),
        "log_A_real": np.log(-A.real),
        "A_imag": A.imag,
        "C": pairs(kernel.C),
        "D": D,
    }
    if input_matrix := bool((B != 1).any()):
        tensors["B"] = pairs(B)
    return graph.add("s4d", name, tensors, input_matrix=input_matrix, **keys)


def _minimal(checkpoint: Checkpoint, at: str) -> Kernel:
    C = complexes(checkpoint.take(f"{at}C", None, None, 2))
    A = -np.exp(_float64(checkpoint, f"{at}log_A_real", *C.shape)) + 1j * _float64(checkpoint, f"{at}A_imag", *C.shape)
    dt = np.exp(_float64(checkpoint, f"{at}log_dt", C.shape[0]))
    return Kernel(dt[:, None], A, np.ones_like(A), C, None, "zoh")


def _v4(checkpoint: Checkpoint, at: str, options: Options, outputs: int) -> Kernel:
    real = f"{at}A_imag" not in checkpoint.tensors  # is_real
    C = _output_matrix(checkpoint, at, outputs, real)
    modes = C.shape[1]
    transform = options.take("real_transform", "exp", TRANSFORMS)
    A = -_positive(checkpoint, f"{at}A_real", "real_transform", transform, (None, modes)) + 0j
    if not real:
        imag = _float64(checkpoint, f"{at}A_imag", *A.shape)
        A -= 1j * TRANSFORMS[options.take("imag_transform", "none", TRANSFORMS)](imag)
    B = checkpoint.take(f"{at}B", 1, *A.shape, *(() if real else (2,)))[0]
    transform = options.take("dt_transform", "exp", TRANSFORMS)
    dt = _positive(checkpoint, f"{at}inv_dt", "dt_transform", transform, (C.shape[0], None))
    if dt.shape[1] not in (1, modes):
        raise ConvertError(f"{at}inv_dt has {dt.shape[1]} columns for {modes} modes", checkpoint.path, "is it whole?")
    P = _low_rank(checkpoint, at, A.shape)
    if P is None:
        disc = options.take("disc", "zoh", DISCRETIZATIONS)
    elif dt.shape[1] > 1:
        raise ConvertError(f"{at}inv_dt has a step for each mode", checkpoint.path, "with a low-rank part one is read")
    else:
        disc = "bilinear"
    kernel = _spread(checkpoint, at, Kernel(dt, A, B + 0j if real else complexes(B), C, P, disc))
    return kernel if P is None else _with_true_output(checkpoint, kernel, f"{at}l_kernel", options)


def _v3(checkpoint: Checkpoint, at: str, options: Options, outputs: int) -> Kernel:
    C = _output_matrix(checkpoint, at, outputs, False)
    shape = (None, C.shape[1])
    P = _low_rank(checkpoint, at, shape)
    if f"{at}log_w_real" in checkpoint.tensors:
        A = -np.exp(_float64(checkpoint, f"{at}log_w_real", *shape))
    else:
        transform = options.take("real_transform", "exp", TRANSFORMS)
        floor = 0.0 if P is not None and transform == "relu" else None
        name = f"{at}{'inv_A_real' if P is None else 'inv_w_real'}"
        A = -_positive(checkpoint, name, "real_transform", transform, shape, floor)
    imag = "w_imag" if f"{at}w_imag" in checkpoint.tensors else "A_imag"
    A = A + 1j * _float64(checkpoint, f"{at}{imag}", *A.shape)
    if P is None:
        checkpoint.drop(f"{at}A")  # version 3 keeps a copy of the initial A that it does not use
        B = complexes(checkpoint.take(f"{at}B", *A.shape, 2))
        why = "version 3's diagonal kernel defaults to bilinear and its published configurations set zoh"
        disc = options.need("disc", "zoh", why, DISCRETIZATIONS)
    else:
        B, disc = complexes(checkpoint.take(f"{at}B", 1, *A.shape, 2)[0]), "bilinear"
    dt = np.exp(_float64(checkpoint, f"{at}log_dt", C.shape[0]))
    kernel = _spread(checkpoint, at, Kernel(dt[:, None], A, B, C, P, disc))
    return kernel if P is None else _with_true_output(checkpoint, kernel, f"{at}L", options)


def _float64(checkpoint: Checkpoint, name: str, *shape: int | None) -> Array:
    return checkpoint.take(name, *shape).astype(np.float64)


def _positive(
    checkpoint: Checkpoint, name: str, setting: str, transform: str, shape: Shape, floor: float | None = None
) -> Array:
    """What a transform makes of a stored tensor, in double precision; modes have to decay, and time to go on.

    A `floor` is that of version 3's relu with a low-rank part, by which modes decay also at 0.
    """
    raw = _float64(checkpoint, name, *shape)
    value = TRANSFORMS[transform](raw) if floor is None else np.maximum(raw, floor)
    if floor is None and not (value > 0).all():
        what = f"{name} is not above 0 everywhere, as {setting} {transform} has it"
        raise ConvertError(what, checkpoint.path, f"was it another? --set {setting}=...")
    return value


def _output_matrix(checkpoint: Checkpoint, at: str, outputs: int, real: bool) -> Array:
    """C (H, N), of one output for each channel and one direction of time."""
    stored = checkpoint.take(f"{at}C", *((None, None, None) if real else (None, None, None, 2)))
    if stored.shape[0] != outputs:
        what = f"{at}C has {stored.shape[0]} outputs and D {outputs}: it reads a recording from its end, too"
        raise ConvertError(what, checkpoint.path, "a live stream has none; train one without bidirectional")
    if outputs != 1:
        what = f"{at}C has {outputs} outputs for each channel"
        raise ConvertError(what, checkpoint.path, "one is expressible; train one with channels=1")
    return stored[0] + 0j if real else complexes(stored[0])


def _low_rank(checkpoint: Checkpoint, at: str, shape: Shape) -> Array | None:
    if f"{at}P" not in checkpoint.tensors:
        return None
    return complexes(checkpoint.take(f"{at}P", None, *shape, 2))


def _spread(checkpoint: Checkpoint, at: str, kernel: Kernel) -> Kernel:
    """A, B and P for each of the H channels."""
    H, systems = kernel.C.shape[0], kernel.A.shape[0]
    if systems == 0 or H % systems:
        raise ConvertError(f"{at}B has {systems} systems for {H} channels", checkpoint.path, "is it whole?")
    kernel.A, kernel.B = (np.tile(array, (H // systems, 1)) for array in (kernel.A, kernel.B))
    if kernel.P is not None:
        kernel.P = np.tile(kernel.P, (1, H // systems, 1))
    return kernel


def _with_true_output(checkpoint: Checkpoint, kernel: Kernel, length: str, options: Options) -> Kernel:
    """C in place of C~: (I - Abar^L)^T C = C~, channel by channel, over the modes and their conjugates."""
    if length in checkpoint.tensors:
        L = round(float(checkpoint.take(length)))  # a checkpoint in half precision has halved it, too
    else:
        L = options.need("l_kernel", 0, f"there is no {length}, the length that C is corrected for, 0 for none")
    if L == 0:
        return kernel
    assert kernel.P is not None
    full = [np.concatenate([array, array.conj()], -1) for array in (kernel.A, kernel.P, kernel.C)]
    A, P, C = full
    identity = np.eye(A.shape[1])
    try:
        for h in range(kernel.channels):
            half = kernel.dt[h, 0] / 2 * (np.diag(A[h]) - P[:, h].T @ P[:, h].conj())
            power = np.linalg.matrix_power(np.linalg.solve(identity - half, identity + half), L)
            kernel.C[h] = np.linalg.solve((identity - power).T, C[h])[: kernel.C.shape[1]]
    except np.linalg.LinAlgError as error:
        raise ConvertError(
            f"{length} {L} does not belong to its C ({error})", checkpoint.path, "is it whole?"
        ) from error
    return kernel
