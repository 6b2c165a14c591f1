"""ALOHA's HDF5: one file per episode with `observations/qpos`, `observations/images/*` and `action`."""
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.convert.pictures import decoded, slices_of
from vqbet_course.convert.source import Episode, Frames, Source

KIND = "ALOHA HDF5"
FPS = 50.0
"""ALOHA's control rate (Zhao et al. 2023, section V); the files do not repeat it."""

NUMBERS = {"observations/qpos": "observation.state", "observations/qvel": "observation.velocity",
           "observations/effort": "observation.effort", "action": "action"}


def files_of(path: Path) -> list[Path]:
    found = [path] if path.is_file() else [p for p in path.glob("episode_*") if p.suffix in (".hdf5", ".h5")]
    return sorted(found, key=lambda p: [int(part) for part in re.findall(r"\d+", p.stem)])


def accepts(path: Path) -> bool:
    files = files_of(path) if path.is_dir() or path.suffix in (".hdf5", ".h5") else []
    if not files:
        return False
    import h5py

    with h5py.File(files[0]) as file:
        return "observations" in file


def open_source(path: Path, fps: float | None) -> Source:
    import h5py

    files = files_of(path)

    def read(first: int) -> Iterator[Episode]:
        for number in range(first, len(files)):
            with h5py.File(files[number]) as file:
                yield episode_of(file, f"{files[number]}, episode {number}")

    with h5py.File(files[0]) as file:
        first = episode_of(file, str(files[0]))
        sizes = {name: next(frames()).shape for name, frames in first.images.items()}
    return Source(str(path), KIND, len(files), read, fps or FPS, sizes, robot="aloha")


def episode_of(file: Any, place: str) -> Episode:
    numbers = {feature: file[name][:].astype(np.float32) for name, feature in NUMBERS.items() if name in file}
    numbers["action"] = file["action"][:].astype(np.float32)  # a KeyError where it is missing
    cameras = file.get("observations/images", {})
    images = {f"observation.images.{name}": frames_of(cameras[name], place) for name in cameras}
    return Episode(numbers, place, images)


def frames_of(array: Any, place: str) -> Frames:
    """Pictures (N, H, W, 3), or JPEGs (N, bytes) padded with zeros to one length."""
    if array.ndim == 4:
        return slices_of(array, 0, len(array), place)
    return lambda: (decoded(np.asarray(row).tobytes()) for row in array)
