"""Thins a line to the points that its picture needs (MinMaxLTTB, https://arxiv.org/abs/2305.00332)."""

import numpy as np
from numpy.typing import NDArray
from tsdownsample import MinMaxLTTBDownsampler


def thinned(times_ms: NDArray[np.int64], values: NDArray[np.float64], points: int) -> NDArray[np.int64]:
    """Return the indices of about this many points, first and last among them; of all where there are no more."""
    if len(times_ms) <= max(points, 3):
        return np.arange(len(times_ms))
    if points < 3:
        return np.array([0, len(times_ms) - 1])
    downsampler = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]
    kept = downsampler.downsample(np.ascontiguousarray(times_ms), np.ascontiguousarray(values), n_out=points)
    return np.asarray(kept, dtype=np.int64)
