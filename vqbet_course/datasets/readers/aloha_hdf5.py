"""ALOHA's HDF5: one file per episode with `observations/qpos`, `observations/images/*` and `action`."""
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqbet_course.datasets.images import hdf5_frames
from vqbet_course.datasets.source import Episode, Source

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
                yield episode_of(files[number], file, number)

    with h5py.File(files[0]) as file:
        first = episode_of(files[0], file, 0)
        sizes = {name: next(frames()).shape for name, frames in first.images.items()}
    return Source(str(path), KIND, len(files), read, fps or FPS, sizes, robot="aloha")


def episode_of(path: Path, file: Any, number: int) -> Episode:
    place = f"{path}, episode {number}"
    numbers = {feature: file[name][:] for name, feature in NUMBERS.items() if name in file}
    cameras = file.get("observations/images", {})
    images = {f"observation.images.{name}": hdf5_frames(path, cameras[name].name, place) for name in cameras}
    return Episode(numbers, place, images)
