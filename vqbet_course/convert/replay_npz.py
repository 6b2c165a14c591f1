"""An .npz of a replay buffer: `action` (N, A), `episode_ends` (E,), and others, `state` (N, 5) for PushT."""
from pathlib import Path

import numpy as np

from vqbet_course.contract import BadInput
from vqbet_course.convert.replay import replay_source
from vqbet_course.convert.source import Source

KIND = "replay npz"


def accepts(path: Path) -> bool:
    return path.suffix == ".npz" and path.is_file()


def open_source(path: Path, fps: float | None) -> Source:
    with np.load(path) as archive:
        arrays = {name: np.asarray(archive[name]) for name in archive.files}
    if "episode_ends" not in arrays:
        raise BadInput(f"{path}: no array `episode_ends`; expected state, action and episode_ends")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise BadInput(f"{path}: {name} holds {array.dtype}, not numbers")
    ends = np.atleast_1d(arrays.pop("episode_ends")).astype(np.int64)
    return replay_source(str(path), KIND, arrays, ends, fps)
