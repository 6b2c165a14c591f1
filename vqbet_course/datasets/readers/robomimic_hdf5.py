"""A robomimic HDF5 file: `data/demo_*/obs/*` and `data/demo_*/actions`; `mask/*` are lists of demonstrations, such as those
to train on. Isaac Lab writes such files, too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.clock import is_clock
from vqbet_course.datasets.images import hdf5_frames
from vqbet_course.datasets.readers.hdf5 import flat_rows, is_camera, is_hdf5, is_numbers, leaves, opened
from vqbet_course.datasets.source import UNSTATED, BadEpisode, Episode, Source

KIND = "robomimic HDF5"
ACTIONS, OBSERVATIONS = ("actions", "action"), ("obs", "observations")
WORLD = "object"
"""The observation that is the world's; all others are the robot's own."""


def accepts(path: Path) -> bool:
    """Whether a path is such a file."""
    if not is_hdf5(path):
        return False
    with opened(path) as file:
        return "data" in file


def open_source(path: Path, choice: Choice) -> Source:
    """A source of all demonstrations of a file, by number. Raises BadInput for what cannot be read."""
    wanted = choice.features or ()
    with opened(path) as file:
        demos = sorted((name for name in file["data"] if demo_number(name) is not None), key=by_number)
        if not demos:
            raise BadInput(f"{path}: no data/demo_*; expected the layout of robomimic")
        arguments = arguments_of(path, file["data"].attrs.get("env_args", "{}"))
        sizes: dict[str, tuple[int, ...]] = {}
        for name in demos:
            sizes = cameras_of(file["data"][name]) | sizes
        first = file["data"][demos[0]]
        observations = part(first, OBSERVATIONS, str(path))
        states = {"observation.state": components(observations, states_of(observations))}
        splits, unusable = masks_of(file, demos)
        left_out = unread(first, observations, wanted) | unusable
    settings = arguments.get("env_kwargs")
    settings = settings if isinstance(settings, dict) else {}
    robots = settings.get("robots", UNSTATED)
    rate = settings.get("control_freq")

    def read(start: int) -> Iterator[Episode]:
        with opened(path) as file:
            for number in range(start, len(demos)):
                yield episode_of(path, file["data"][demos[number]], number, states["observation.state"], wanted)

    return Source(
        str(path),
        KIND,
        len(demos),
        read,
        choice.fps or (float(rate) if rate else None),
        sizes,
        names=states,
        task=str(arguments.get("env_name", UNSTATED)),
        left_out=left_out,
        splits=splits,
        robot=robots if isinstance(robots, str) else ", ".join(map(str, robots)),
    )


def demo_number(name: str) -> int | None:
    """`demo_7` -> 7; None for another name."""
    number = name.removeprefix("demo_")
    return int(number) if number.isdecimal() and number != name else None


def by_number(name: str) -> int:
    """A key that puts demonstrations in the order of their numbers."""
    return demo_number(name) or 0


def masks_of(file: Any, demos: list[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """{name: numbers of its demonstrations} of the masks of a file, and {mask: why it cannot be used} of the others."""
    splits, unusable = dict[str, tuple[int, ...]](), dict[str, str]()
    place = {name: number for number, name in enumerate(demos)}
    for name, array in leaves(file.get("mask", {})).items():
        if array.dtype.kind not in "OS" or array.ndim != 1:
            unusable[f"mask/{name}"] = f"{array.dtype}, not the names of demonstrations"
            continue
        named = [text.decode(errors="replace") for text in array[:]]
        missing = next((text for text in named if text not in place), None)
        if missing is None:
            splits[name] = tuple(sorted(place[text] for text in named))
        else:
            unusable[f"mask/{name}"] = f"names {missing}, which is not in the file"
    return splits, unusable


def arguments_of(path: Path, text: Any) -> dict[str, Any]:
    """The arguments of the environment. Raises BadInput for what is no JSON object."""
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError):
        raise BadInput(f"{path}: data's env_args is no JSON object") from None


def part(demo: Any, names: tuple[str, ...], place: str) -> Any:
    """What a demonstration has under one of these names. Raises BadInput where it has none."""
    found = next((demo[name] for name in names if name in demo), None)
    if found is None:
        raise BadEpisode(place, f"{demo.name} has no {' or '.join(names)}, only {', '.join(demo) or 'nothing'}")
    return found


def cameras_of(demo: Any) -> dict[str, tuple[int, ...]]:
    """{camera: (H, W, 3)} of a demonstration; none where it has no observations."""
    observations: Any = next((demo[name] for name in OBSERVATIONS if name in demo), {})
    return {camera(name): tuple(array.shape[1:]) for name, array in leaves(observations).items() if is_camera(array)}


def camera(name: str) -> str:
    """The name of a camera."""
    return f"observation.images.{name}"


def states_of(observations: Any) -> list[str]:
    """The observations that are the robot's own numbers; those in groups are not among them."""
    return [
        name
        for name, array in leaves(observations).items()
        if "." not in name
        and name != WORLD
        and is_numbers(array)
        and array.ndim < 4
        and not is_clock(name, np.zeros(0))
    ]


def components(observations: Any, names: list[str]) -> list[str]:
    """A name for each number of these observations, side by side."""
    return [f"{name}_{i}" for name in names for i in range(int(np.prod(observations[name].shape[1:], dtype=int)))]


def unread(demo: Any, observations: Any, wanted: tuple[str, ...]) -> dict[str, str]:
    """{array: why it is left out} of a demonstration."""
    found: dict[str, str] = {}
    read = {WORLD, *states_of(observations)}
    for name, array in leaves(observations).items():
        if name in read or is_camera(array) or f"observation.{name}" in wanted:
            continue
        if is_numbers(array) and array.ndim < 4 and not is_clock(name, np.zeros(0)):
            found[f"obs/{name}"] = f"in a group of its own; take it with --features observation.{name},..."
        else:
            found[f"obs/{name}"] = f"{' x '.join(map(str, array.shape[1:]))} of {array.dtype}; such arrays are not read"
    others = sorted(set(demo) - {*ACTIONS, *OBSERVATIONS})
    return found | dict.fromkeys(others, "of the simulator, not observed")


def episode_of(path: Path, demo: Any, number: int, states: list[str], wanted: tuple[str, ...]) -> Episode:
    """`object` becomes the environment's state; everything else, side by side in order of its name, the robot's."""
    place = f"{path}, episode {number} ({demo.name.split('/')[-1]})"
    numbers = {"action": flat_rows(part(demo, ACTIONS, place), place)}
    observations = part(demo, OBSERVATIONS, place)
    own = states_of(observations)
    if components(observations, own) != states:
        differ = sorted(set(components(observations, own)) ^ set(states))
        raise BadEpisode(place, f"its observations are not those of the first episode ({', '.join(differ[:4])})")
    if own:
        numbers["observation.state"] = np.concatenate([flat_rows(observations[name], place) for name in own], axis=1)
    if WORLD in observations:
        numbers["observation.environment_state"] = flat_rows(observations[WORLD], place)
    for name, array in leaves(observations).items():
        if f"observation.{name}" in wanted and "." in name and is_numbers(array):
            numbers[f"observation.{name}"] = flat_rows(array, place)
    images = {
        camera(name): hdf5_frames(path, array.name, place)
        for name, array in leaves(observations).items()
        if is_camera(array)
    }
    return Episode(numbers, place, images)
