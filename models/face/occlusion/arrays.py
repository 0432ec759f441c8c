"""The types of arrays that the package passes around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
