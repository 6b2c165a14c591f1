"""The .npy files of BeT and VQ-BeT: `*observations*`, `*actions*` and a `*mask*` that says how long each episode is.

Relay kitchen's `observations_seq.npy` is (T, E, size), block pushing's `multimodal_push_observations.npy` (E, T, size):
the mask, ones and then zeros, tells which.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.source import Episode, Source

KIND = "VQ-BeT's .npy files"
PARTS = ("observations", "actions", "mask")


def files_of(path: Path) -> dict[str, Path]:
    """{part: file}, for the parts that are there once."""
    found = {part: sorted(path.glob(f"*{part}*.npy")) for part in PARTS}
    return {part: files[0] for part, files in found.items() if len(files) == 1}


def accepts(path: Path) -> bool:
    """Whether a path is a folder of such files."""
    return path.is_dir() and files_of(path).keys() >= {"observations", "actions"}


def open_source(path: Path, choice: Choice) -> Source:
    """A source of all episodes. Raises BadInput for arrays that do not fit together."""
    files = files_of(path)
    arrays = {part: np.load(file, mmap_mode="r", allow_pickle=False) for part, file in files.items()}
    if "mask" not in arrays:
        raise BadInput(f"{path}: no *mask*.npy, which says how long each episode is")
    mask = np.asarray(arrays["mask"]) > 0
    for part in ("observations", "actions"):
        if arrays[part].ndim != 3 or arrays[part].shape[:2] != mask.shape:
            raise BadInput(
                f"{files[part]}: has shape {arrays[part].shape}, expected {mask.shape} and a size, by "
                f"{files['mask'].name}"
            )
    by_time = is_whole(mask) and ("_seq" in files["observations"].name or not is_whole(mask.T))
    if not by_time and not is_whole(mask.T):
        raise BadInput(f"{files['mask']}: not ones and then zeros along one axis; the lengths of episodes are unknown")
    lengths = mask.sum(0 if by_time else 1)

    def read(start: int) -> Iterator[Episode]:
        for number in range(start, len(lengths)):
            rows = (slice(lengths[number]), number) if by_time else (number, slice(lengths[number]))
            yield Episode(
                {
                    "observation.state": np.array(arrays["observations"][rows]),
                    "action": np.array(arrays["actions"][rows]),
                },
                f"{path}, episode {number}",
            )

    others = {
        file.name: "not one of observations, actions and mask"
        for file in sorted(path.glob("*.npy"))
        if file not in files.values()
    }
    return Source(str(path), KIND, len(lengths), read, choice.fps, left_out=others)


def is_whole(mask: np.ndarray) -> bool:
    """Whether a mask (T, E) is, for each episode, ones and then zeros."""
    return bool((np.diff(mask.astype(int), axis=0) <= 0).all() and mask[:1].all())
