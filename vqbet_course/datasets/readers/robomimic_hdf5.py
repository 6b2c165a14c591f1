"""A robomimic HDF5 file: `data/demo_*/obs/*` and `data/demo_*/actions`."""
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.images import hdf5_frames
from vqbet_course.datasets.source import UNSTATED, Episode, Source

KIND = "robomimic HDF5"


def accepts(path: Path) -> bool:
    if path.suffix not in (".hdf5", ".h5") or not path.is_file():
        return False
    import h5py

    with h5py.File(path) as file:
        return "data" in file


def open_source(path: Path, fps: float | None) -> Source:
    import h5py

    with h5py.File(path) as file:
        demos = sorted((name for name in file["data"] if name.startswith("demo_")), key=demo_number)
        if not demos:
            raise BadInput(f"{path}: no data/demo_*; expected the layout of robomimic")
        arguments = json.loads(file["data"].attrs.get("env_args", "{}"))
        observations = file["data"][demos[0]]["obs"]
        sizes = {f"observation.images.{name}": tuple(observations[name].shape[1:]) for name in pictures(observations)}
        states = [f"{name}_{i}" for name in states_of(observations)
                  for i in range(np.prod(observations[name].shape[1:], dtype=int))]
    rate = arguments.get("env_kwargs", {}).get("control_freq")
    task = str(arguments.get("env_name", UNSTATED))
    robots = arguments.get("env_kwargs", {}).get("robots", UNSTATED)

    def read(first: int) -> Iterator[Episode]:
        with h5py.File(path) as file:
            for number in range(first, len(demos)):
                yield episode_of(path, file["data"][demos[number]], number)

    return Source(str(path), KIND, len(demos), read, fps or rate, sizes, names={"observation.state": states},
                  task=task, robot=robots if isinstance(robots, str) else ", ".join(robots))


def demo_number(name: str) -> int:
    return int(name.removeprefix("demo_"))


def pictures(observations: Any) -> list[str]:
    return sorted(name for name, values in observations.items() if values.ndim == 4)


def states_of(observations: Any) -> list[str]:
    """The observations that are the robot's own; `object` is the world's."""
    return sorted(set(observations) - set(pictures(observations)) - {"object"})


def episode_of(path: Path, demo: Any, number: int) -> Episode:
    """`object` becomes the environment's state; everything else, side by side in order of its name, the robot's."""
    observations, place = demo["obs"], f"{path}, episode {number} ({demo.name.split('/')[-1]})"
    parts = [observations[name][:].reshape(len(observations[name]), -1) for name in states_of(observations)]
    numbers = {"action": demo["actions"][:]}
    if parts:
        numbers["observation.state"] = np.concatenate(parts, axis=1)
    if "object" in observations:
        numbers["observation.environment_state"] = observations["object"][:]
    images = {f"observation.images.{name}": hdf5_frames(path, observations[name].name, place)
              for name in pictures(observations)}
    return Episode(numbers, place, images)
