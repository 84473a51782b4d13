# SPDX-License-Identifier: Apache-2.0
"""bfloat16, which numpy has no type for: the upper half of a float32."""

import numpy as np
from numpy.typing import NDArray


def widen(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 of the same value."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
