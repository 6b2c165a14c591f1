"""ALOHA's HDF5: one file per episode with `observations/qpos`, `observations/images/*` and `action`.

Mobile ALOHA's `base_action` follows the arms' numbers in the action, as its authors train it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.images import hdf5_frames
from vqbet_course.datasets.readers.hdf5 import flat_rows, is_hdf5, is_numbers, leaves, opened
from vqbet_course.datasets.source import Episode, Source, readable

KIND = "ALOHA HDF5"
FPS = 50.0
"""ALOHA's control rate (Zhao et al. 2023, section V); the files do not repeat it."""

NUMBERS = {
    "observations/qpos": "observation.state",
    "observations/qvel": "observation.velocity",
    "observations/effort": "observation.effort",
    "action": "action",
}
BASE = "base_action"
READ = {*(name.replace("/", ".") for name in NUMBERS), BASE, "compress_len"}


def files_of(path: Path) -> list[Path]:
    """The files of the episodes, by number."""
    found = [path] if path.is_file() else [p for p in path.glob("episode_*") if is_hdf5(p)]
    return sorted(found, key=lambda p: [int(part) for part in re.findall(r"\d+", p.stem)])


def accepts(path: Path) -> bool:
    """Whether a path is such a file or a folder of them."""
    files = files_of(path) if path.is_dir() or is_hdf5(path) else []
    if not files:
        return False
    with opened(files[0]) as file:
        return "observations" in file


def open_source(path: Path, choice: Choice) -> Source:
    """A source of all files, with the cameras that any of them has. Raises BadInput for what cannot be read."""
    files, wanted = files_of(path), choice.features or ()
    sizes: dict[str, tuple[int, ...]] = {}
    left_out: dict[str, str] = {}
    wide: dict[str, int] = {}
    for number, name in enumerate(files):
        with readable(str(name)), opened(name) as file:
            found = episode_of(name, file, number, wanted)
            wide |= {BASE: file[BASE].shape[-1]} if BASE in file else {}
            sizes |= {camera: next(frames()).shape for camera, frames in found.images.items() if camera not in sizes}
            left_out |= unread(file, wanted)

    def read(first: int) -> Iterator[Episode]:
        for number in range(first, len(files)):
            with opened(files[number]) as file:
                yield episode_of(files[number], file, number, wanted)

    arms = found.numbers["action"].shape[1] - wide.get(BASE, 0)
    names = {"action": [*(f"arm_{i}" for i in range(arms)), *(f"base_{i}" for i in range(wide[BASE]))]} if wide else {}
    return Source(
        str(path), KIND, len(files), read, choice.fps or FPS, sizes, names=names, robot="aloha", left_out=left_out
    )


def episode_of(path: Path, file: Any, number: int, wanted: tuple[str, ...]) -> Episode:
    """One file as an episode. `wanted`: arrays to take beside the usual ones, `observation.` and their name."""
    place = f"{path}, episode {number}"
    numbers = {feature: flat_rows(file[name], place) for name, feature in NUMBERS.items() if name in file}
    for name, array in leaves(file["observations"]).items() if "observations" in file else ():
        if f"observation.{name}" in wanted and f"observation.{name}" not in numbers and is_numbers(array):
            numbers[f"observation.{name}"] = flat_rows(array, place)
    if BASE in file and "action" in numbers:
        base = flat_rows(file[BASE], place)
        if len(base) != len(numbers["action"]):
            raise BadInput(f"{place}: {BASE} has {len(base)} rows, action {len(numbers['action'])}")
        numbers["action"] = np.concatenate([numbers["action"], base], axis=1)
    cameras = file.get("observations/images", {})
    images = {
        f"observation.images.{name}": hdf5_frames(path, cameras[name].name, place)
        for name in cameras
        if in_colour(cameras[name])
    }
    return Episode(numbers, place, images)


def in_colour(array: Any) -> bool:
    """Whether an array is images in colour, or bytes of JPEGs (N, bytes)."""
    return (array.ndim == 2 and array.dtype == np.uint8) or (array.ndim == 4 and array.shape[-1] == 3)


def unread(file: Any, wanted: tuple[str, ...]) -> dict[str, str]:
    """{array: why it is left out} of a file."""
    found: dict[str, str] = {}
    for name, array in leaves(file).items():
        feature = "observation." + name.removeprefix("observations.")
        if name in READ or feature in wanted or (name.startswith("observations.images.") and in_colour(array)):
            continue
        if name.startswith("observations.") and is_numbers(array) and ".images." not in name:
            found[name] = f"not one of ALOHA's; take it with --features {feature},..."
        else:
            found[name] = f"{' x '.join(map(str, array.shape[1:]))} of {array.dtype}; such arrays are not read"
    return found
