"""Replay buffers of the Diffusion Policy kind: arrays of all frames end to end, and where the episodes end."""
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.images import slices_of
from vqbet_course.datasets.source import Episode, Source, check_ends


def replay_source(path: str, kind: str, arrays: Mapping[str, Any], ends: np.ndarray, fps: float | None) -> Source:
    """A source from arrays {name: (N, ...)}, on a disk or in memory, and episode_ends (E,).

    `action` is the action; every other array of numbers is `observation.` of its name, `state` among them."""
    check_arrays(path, arrays, ends)
    pictures = {name: f"observation.image{'s.' + name if name != 'img' else ''}"
                for name, array in arrays.items() if array.ndim == 4}
    starts = np.concatenate([[0], ends[:-1]])

    def read(first: int) -> Iterator[Episode]:
        for number in range(first, len(ends)):
            start, end, place = int(starts[number]), int(ends[number]), f"{path}, episode {number}"
            numbers = {name if name == "action" else f"observation.{name}": flat(np.asarray(array[start:end]))
                       for name, array in arrays.items() if name not in pictures}
            images = {feature: slices_of(arrays[name], start, end, place) for name, feature in pictures.items()}
            yield Episode(numbers, place, images)

    sizes = {feature: tuple(arrays[name].shape[1:]) for name, feature in pictures.items()}
    return Source(path, kind, len(ends), read, fps, sizes)


def check_arrays(path: str, arrays: Mapping[str, Any], ends: np.ndarray) -> None:
    """Raise BadInput unless the arrays are equally long and cut into whole episodes."""
    if "action" not in arrays:
        raise BadInput(f"{path}: no array `action`, only {', '.join(sorted(arrays)) or 'none'}")
    n = arrays["action"].shape[0] if arrays["action"].ndim else 0
    for name, array in arrays.items():
        if array.ndim < 2 or array.shape[0] != n:
            raise BadInput(f"{path}: {name} has shape {array.shape}, expected ({n}, size), as many rows as action")
    check_ends(path, ends, n)


def flat(values: np.ndarray) -> np.ndarray:
    """Rows (N, ...) as (N, size)."""
    return values.reshape(len(values), -1)
