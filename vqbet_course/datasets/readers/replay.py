"""Replay buffers of the Diffusion Policy kind: arrays of all frames end to end, and where the episodes end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.clock import COUNTERS, is_clock, rate_of, seconds_of
from vqbet_course.datasets.images import slices_of
from vqbet_course.datasets.readers.hdf5 import is_numbers
from vqbet_course.datasets.source import Episode, Source, believable, check_ends

ACTIONS = ("action", "actions")
STATES = ("state", "states", "robot_state", "qpos", "agent_pos", "proprio", "obs", "observation", "observations")
"""Names of the state; a buffer with one of them has it as `observation.state`."""

POSE = ("eef_pos", "eef_rot_axis_angle", "gripper_width")
"""UMI's arrays of each robot, from which its actions are derived: the pose of the next frame."""


@dataclass(frozen=True)
class Layout:
    """What the arrays of a buffer are: numbers {array: feature}, images {array: feature}, clocks, left_out {array:
    why}, poses: the arrays whose next row is the action, where none is stored."""

    numbers: dict[str, str]
    images: dict[str, str]
    clocks: list[str]
    left_out: dict[str, str]
    poses: list[str] = field(default_factory=list)


def replay_source(path: str, kind: str, arrays: Mapping[str, Any], ends: np.ndarray, choice: Choice) -> Source:
    """A source from arrays {name: (N, ...)}, on a disk or in memory, and episode_ends (E,).

    `action` is the action; a clock is none; the other arrays of numbers are `observation.` of their names. Without an
    action, UMI's is derived: the pose of the next frame, so that the last frame of an episode falls away."""
    check_arrays(path, arrays, ends)
    starts = np.concatenate([[0], ends[:-1]])
    found = layout_of(path, arrays, int(ends[0]), choice.features or ())

    def rows(name: str, start: int, end: int, place: str) -> np.ndarray:
        believable(f"{place}: {name}", (end - start, *arrays[name].shape[1:]), arrays[name].dtype.itemsize)
        return flat(np.asarray(arrays[name][start:end]))

    def read(first: int) -> Iterator[Episode]:
        for number in range(first, len(ends)):
            start, end, place = int(starts[number]), int(ends[number]), f"{path}, episode {number}"
            numbers = {feature: rows(name, start, end, place) for name, feature in found.numbers.items()}
            last = end
            if found.poses:
                state = np.concatenate([rows(name, start, end, place) for name in found.poses], axis=1)
                last = end - 1
                numbers = {name: values[:-1] for name, values in numbers.items()}
                numbers |= {"observation.state": state[:-1], "action": state[1:]}
            clock = {name: rows(name, start, last, place) for name in found.clocks}
            images = {feature: slices_of(arrays[name], start, last, place) for name, feature in found.images.items()}
            yield Episode(numbers, place, images, seconds_of(clock, place, choice.fps is not None))

    sizes = {feature: size_of(arrays[name]) for name, feature in found.images.items()}
    names = {}
    if found.poses:
        own = [f"{name}_{i}" for name in found.poses for i in range(int(np.prod(arrays[name].shape[1:], dtype=int)))]
        names = {"observation.state": own, "action": own}
    stated = None
    if found.clocks and choice.fps is None:
        stated = rate_of(next(read(0)).clock)
    return Source(path, kind, len(ends), read, choice.fps or stated, sizes, names=names, left_out=found.left_out)


def size_of(array: Any) -> tuple[int, ...]:
    """(H, W, 3) of an array of images."""
    return tuple(array.shape[1:]) if array.shape[3] == 3 else (*array.shape[2:], 3)


def is_images(array: Any) -> bool:
    """Whether an array is images in colour, with the channels last or first."""
    return array.ndim == 4 and 3 in (array.shape[3], array.shape[1]) and array.dtype.kind in "fiu"


def layout_of(path: str, arrays: Mapping[str, Any], end: int, wanted: tuple[str, ...]) -> Layout:
    """What each array is; `end` is that of the first episode, by which clocks are known."""
    images = {
        name: f"observation.image{'s.' + name if name != 'img' else ''}"
        for name, array in arrays.items()
        if is_images(array)
    }
    clocks, numbers, left_out = list[str](), dict[str, str](), dict[str, str]()
    action = next((name for name in ACTIONS if name in arrays), None)
    states = [name for name in STATES if name in arrays]
    for name, array in arrays.items():
        if name in images:
            continue
        if name == action:
            check_numbers(path, name, array)
            numbers[name] = "action"
        elif not is_numbers(array):
            left_out[name] = f"{' x '.join(map(str, array.shape[1:])) or 'one'} of {array.dtype} a frame; not read"
        elif name in COUNTERS or is_clock(
            name, np.asarray(array[0:end]).reshape(-1) if array.ndim < 3 else np.empty((1, 2))
        ):
            clocks.append(name)
            left_out[name] = "the time or number of a frame, not observed"
        else:
            numbers[name] = "observation.state" if [name] == states else f"observation.{name}"
    poses = [name for name in arrays if name.startswith("robot") and name.endswith(POSE)]
    if action is None and not poses:
        raise BadInput(f"{path}: no array `action`, only {', '.join(sorted(arrays)) or 'none'}")
    if action is not None:
        return Layout(numbers, images, clocks, left_out)
    others = [name for name in numbers if name not in poses and numbers[name] not in wanted]
    left_out |= {name: f"not of the pose; take it with --features {numbers[name]},..." for name in others}
    kept = {name: numbers[name] for name in numbers if name not in poses and name not in others}
    return Layout(kept, images, clocks, left_out, sorted(poses, key=pose_order))


def pose_order(name: str) -> tuple[str, int]:
    """A key that puts position, rotation and width of each robot in this order."""
    part = next(i for i, part in enumerate(POSE) if name.endswith(part))
    return name.split("_")[0], part


def check_numbers(path: str, name: str, array: Any) -> None:
    """Raise BadInput unless an array holds numbers."""
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{path}: {name} holds {array.dtype}, not numbers")


def check_arrays(path: str, arrays: Mapping[str, Any], ends: np.ndarray) -> None:
    """Raise BadInput unless the arrays are equally long and cut into whole episodes."""
    if not arrays:
        raise BadInput(f"{path}: no array `action`, nor any other")
    longest = next(name for name in (*ACTIONS, *arrays) if name in arrays)
    n = arrays[longest].shape[0] if arrays[longest].ndim else 0
    for name, array in arrays.items():
        if array.ndim < 1 or array.shape[0] != n:
            raise BadInput(f"{path}: {name} has shape {array.shape}, expected ({n}, size), as many rows as {longest}")
    check_ends(path, ends, n)


def flat(values: np.ndarray) -> np.ndarray:
    """Rows (N, ...) as (N, size)."""
    return values.reshape(len(values), -1)
