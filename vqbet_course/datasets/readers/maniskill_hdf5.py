"""ManiSkill's HDF5: `traj_*/obs`, with an observation more than there are actions, and `traj_*/actions`.

`obs` is one array, the state, or groups: `agent` is the robot's state, `extra` the environment's, `sensor_data/*/rgb`
are cameras. A trajectory.json of the same name beside the file says which environment it is.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.images import hdf5_frames
from vqbet_course.datasets.readers.hdf5 import flat_rows, is_camera, is_hdf5, is_numbers, leaves, opened
from vqbet_course.datasets.source import UNSTATED, BadEpisode, Episode, Source

KIND = "ManiSkill HDF5"
GROUPS = {"agent": "observation.state", "extra": "observation.environment_state"}


def accepts(path: Path) -> bool:
    """Whether a path is such a file."""
    if not is_hdf5(path):
        return False
    with opened(path) as file:
        return any(number_of(name) is not None for name in file)


def number_of(name: str) -> int | None:
    """`traj_7` -> 7; None for another name."""
    number = name.removeprefix("traj_")
    return int(number) if number.isdecimal() and number != name else None


def open_source(path: Path, choice: Choice) -> Source:
    """A source of all trajectories of a file, by number. Raises BadInput for what cannot be read."""
    with opened(path) as file:
        trajectories = sorted(
            (name for name in file if number_of(name) is not None), key=lambda name: number_of(name) or 0
        )
        first = file[trajectories[0]]
        if "obs" not in first:
            raise BadInput(
                f"{path}: {first.name} has no obs; replay the trajectories with ManiSkill's "
                "replay_trajectory and an observation mode"
            )
        episode = episode_of(path, first, 0)
        names = {
            feature: component_names(first["obs"], group)
            for group, feature in GROUPS.items()
            if feature in episode.numbers and hasattr(first["obs"], "keys")
        }
        left_out = dict.fromkeys(sorted(set(first) - {"obs", "actions"}), "of the simulator, not observed")
        left_out |= {
            f"obs/{name}": "not one of agent, extra and colour cameras; not read"
            for name, array in (leaves(first["obs"]).items() if hasattr(first["obs"], "keys") else ())
            if not is_read(name, array)
        }
        sizes = {name: next(frames()).shape for name, frames in episode.images.items()}

    def read(start: int) -> Iterator[Episode]:
        with opened(path) as file:
            for number in range(start, len(trajectories)):
                yield episode_of(path, file[trajectories[number]], number)

    facts = facts_of(path.with_suffix(".json"))
    return Source(
        str(path),
        KIND,
        len(trajectories),
        read,
        choice.fps or facts.pop("fps", None),
        sizes,
        names=names,
        left_out=left_out,
        **facts,
    )


def facts_of(file: Path) -> dict[str, Any]:
    """Task and rate by the trajectory.json beside the data; empty without one that says them."""
    try:
        environment = json.loads(file.read_text(encoding="utf-8"))["env_info"]
        rate = environment.get("env_kwargs", {}).get("sim_config", {}).get("control_freq")
        return {"task": str(environment.get("env_id", UNSTATED))} | ({"fps": float(rate)} if rate else {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def is_read(name: str, array: Any) -> bool:
    """Whether an array of grouped observations is a part of a feature."""
    group, _, rest = name.partition(".")
    return (group in GROUPS and is_numbers(array)) or (
        group == "sensor_data" and rest.endswith(".rgb") and is_camera(array)
    )


def parts_of(observations: Any, group: str) -> dict[str, Any]:
    """The arrays of numbers below a group, by name."""
    return (
        {name: array for name, array in leaves(observations[group]).items() if is_numbers(array)}
        if (group in observations)
        else {}
    )


def component_names(observations: Any, group: str) -> list[str]:
    """A name for each number of a group, side by side."""
    return [
        f"{name}_{i}"
        for name, array in parts_of(observations, group).items()
        for i in range(int(np.prod(array.shape[1:], dtype=int)))
    ]


def episode_of(path: Path, trajectory: Any, number: int) -> Episode:
    """One trajectory without its last observation, after which nothing is done."""
    place = f"{path}, episode {number} ({trajectory.name.strip('/')})"
    for name in ("obs", "actions"):
        if name not in trajectory:
            raise BadEpisode(place, f"no {name}")
    action, observations = flat_rows(trajectory["actions"], place), trajectory["obs"]
    numbers = {"action": action}
    if not hasattr(observations, "keys"):
        return Episode(numbers | {"observation.state": flat_rows(observations, place)[: len(action)]}, place)
    for group, feature in GROUPS.items():
        parts = [flat_rows(array, place)[: len(action)] for array in parts_of(observations, group).values()]
        if parts:
            numbers[feature] = np.concatenate(parts, axis=1)
    cameras = {
        name.split(".")[1]: array
        for name, array in leaves(observations).items()
        if name.startswith("sensor_data.") and is_read(name, array)
    }
    images = {
        f"observation.images.{name}": hdf5_frames(path, array.name, place, len(action))
        for name, array in cameras.items()
    }
    return Episode(numbers, place, images)
