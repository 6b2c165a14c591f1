"""Replay buffers of the Diffusion Policy kind: arrays of all frames end to end, and where the episodes end."""
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.images import slices_of
from vqbet_course.datasets.source import Episode, Source, check_ends
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.tasks.pusht.geometry import block_keypoints

KEYPOINTS, PUSHER = PUSHT.observation
TASK = "Push the T-shaped block onto the T-shaped target."

NAMES = {KEYPOINTS: [f"keypoint_{i}_{axis}" for i in range(8) for axis in "xy"], PUSHER: ["pusher_x", "pusher_y"],
         "action": ["target_x", "target_y"]}
"""A name for each of PushT's numbers, as in `lerobot/pusht_keypoints`."""


def replay_source(path: str, kind: str, arrays: Mapping[str, Any], ends: np.ndarray, fps: float | None) -> Source:
    """A source from arrays {name: (N, ...)}, on a disk or in memory, and episode_ends (E,).

    `state` (N, 5) with `action` (N, 2) is PushT: pusher x, y, block x, y in pixels, block angle in radians.
    """
    check_arrays(path, arrays, ends)
    pusht = arrays["action"].shape[1:] == (2,) and "state" in arrays and arrays["state"].shape[1:] == (5,)
    if not pusht and fps is None and "state" in arrays:
        raise BadInput(f"{path}: state has shape {arrays['state'].shape} and action {arrays['action'].shape}, PushT's "
                       "are (N, 5) and (N, 2); for another robot say how many frames a second: --fps N")
    pictures = {name: f"observation.image{'s.' + name if name != 'img' else ''}"
                for name, array in arrays.items() if array.ndim == 4}
    starts = np.concatenate([[0], ends[:-1]])

    def read(first: int) -> Iterator[Episode]:
        for number in range(first, len(ends)):
            start, end, place = int(starts[number]), int(ends[number]), f"{path}, episode {number}"
            found = {name: np.asarray(array[start:end]) for name, array in arrays.items() if name not in pictures}
            numbers = pusht_numbers(found) if pusht else plain_numbers(found)
            images = {feature: slices_of(arrays[name], start, end, place) for name, feature in pictures.items()}
            yield Episode(numbers, place, images)

    sizes = {feature: tuple(arrays[name].shape[1:]) for name, feature in pictures.items()}
    if not pusht:
        return Source(path, kind, len(ends), read, fps, sizes)
    return Source(path, kind, len(ends), read, fps or PUSHT.fps, sizes, PUSHT.units(), NAMES, TASK)


def check_arrays(path: str, arrays: Mapping[str, Any], ends: np.ndarray) -> None:
    """Raise BadInput unless the arrays are equally long and cut into whole episodes."""
    if "action" not in arrays:
        raise BadInput(f"{path}: no array `action`, only {', '.join(sorted(arrays)) or 'none'}")
    n = arrays["action"].shape[0] if arrays["action"].ndim else 0
    for name, array in arrays.items():
        if array.ndim < 2 or array.shape[0] != n:
            raise BadInput(f"{path}: {name} has shape {array.shape}, expected ({n}, size), as many rows as action")
    check_ends(path, ends, n)


def pusht_numbers(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PushT's features, and under `source.` everything that the source had beside the action."""
    state = found["state"].astype(np.float64)
    with np.errstate(invalid="ignore"):  # what is not finite is reported with its episode and row
        keypoints = block_keypoints(state[:, 2:])
    kept = {f"source.{name}": flat(values) for name, values in found.items() if name != "action"}
    return {KEYPOINTS: keypoints.astype(np.float32), PUSHER: state[:, :2].astype(np.float32),
            "action": found["action"].astype(np.float32), **kept}


def plain_numbers(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of another robot, each as `observation.` of its name."""
    return {name if name == "action" else f"observation.{name}": flat(values).astype(np.float32)
            for name, values in found.items()}


def flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)
