"""Episodes whose frames lie end to end."""

from collections.abc import Iterable

import numpy as np


def frames_of_episodes(starts: np.ndarray, ends: np.ndarray, episodes: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """The frames of some episodes of frames that lie end to end, in this order, and the new ends of these episodes."""
    frames = [np.arange(starts[e], ends[e]) for e in episodes]
    new_ends = np.cumsum([len(f) for f in frames], dtype=np.int64)
    return np.concatenate([new_ends[:0], *frames]), new_ends
