"""A folder of `episode_*/`, each with one CSV or parquet table and, optionally, numbered PNGs or films.

Columns `action*` are the action, `timestamp` the seconds, `frame_index` the number of the frame; all others are
the state. PNGs lie in the episode's folder or in one folder per camera; an .mp4 is a camera of its own.
"""
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.images import decoded, film_frames
from vqbet_course.datasets.readers.lerobot_dataset import as_array
from vqbet_course.datasets.source import Episode, Frames, Source, readable

KIND = "folder of episode_*/"
NOT_STATE = ("timestamp", "time", "frame_index", "episode_index", "index")


def episode_folders(path: Path) -> list[Path]:
    return sorted((p for p in path.glob("episode_*") if p.is_dir()), key=number_in)


def number_in(path: Path) -> int:
    """The last number of a file's name, -1 where it has none."""
    return int((re.findall(r"\d+", path.stem) or [-1])[-1])


def accepts(path: Path) -> bool:
    return path.is_dir() and bool(episode_folders(path))


def open_source(path: Path, fps: float | None) -> Source:
    folders = episode_folders(path)
    columns, table = read_table(folders[0])
    stated = rate_of(columns, str(table))
    images = cameras(folders[0])
    sizes = {name: next(frames()).shape for name, frames in images.items()}

    def read(first: int) -> Iterator[Episode]:
        for number in range(first, len(folders)):
            columns, table = read_table(folders[number])
            place = f"{table}, episode {number}"
            check_rate(place, rate_of(columns, place), stated)
            yield Episode(numbers_of(columns, place), place, cameras(folders[number]))

    names = {"observation.state": component_names(columns, state_columns(columns)),
             "action": component_names(columns, action_columns(columns))}
    return Source(str(path), KIND, len(folders), read, fps or stated, sizes, names=names)


def read_table(folder: Path) -> tuple[dict[str, np.ndarray], Path]:
    """{column: (T, size)} of the one table in a folder, and its path."""
    import pyarrow.csv
    import pyarrow.parquet

    tables = [p for p in sorted(folder.iterdir()) if p.suffix in (".csv", ".parquet")]
    if len(tables) != 1:
        raise BadInput(f"{folder}: {len(tables)} tables found, expected one .csv or .parquet")
    file = tables[0]
    with readable(str(file)):
        table = (pyarrow.csv.read_csv if file.suffix == ".csv" else pyarrow.parquet.read_table)(file)
        columns = {name: as_array(table[name], f"{file}: {name}") for name in table.column_names}
    for name, values in columns.items():
        if values.dtype.kind not in "fiub":
            row = next((i for i, v in enumerate(values[:, 0]) if not is_number(v)), 0)
            raise BadInput(f"{file}, row {row}: {name} is {str(values[row, 0])!r}, not a number; "
                           "repair it or remove the column")
    if not action_columns(columns) or not state_columns(columns):
        raise BadInput(f"{file}: no columns for {'the state' if action_columns(columns) else 'the action'}; name those "
                       "of the action `action...`, every other one is state")
    return columns, file


def is_number(text: Any) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except (TypeError, ValueError):
        return False


def action_columns(columns: dict[str, np.ndarray]) -> list[str]:
    return [name for name in columns if name.startswith("action")]


def state_columns(columns: dict[str, np.ndarray]) -> list[str]:
    return [name for name in columns if not name.startswith("action") and name not in NOT_STATE]


def component_names(columns: dict[str, np.ndarray], chosen: list[str]) -> list[str]:
    """A name for each number: the column's, numbered where it is a list."""
    wide = {name: columns[name].shape[1] for name in chosen}
    return [name if n == 1 else f"{name}_{i}" for name, n in wide.items() for i in range(n)]


def numbers_of(columns: dict[str, np.ndarray], place: str) -> dict[str, np.ndarray]:
    """State and action. Raises BadInput for frames that are doubled or out of order."""
    if "frame_index" in columns:
        wrong = np.flatnonzero(np.diff(columns["frame_index"][:, 0]) != 1)
        if len(wrong):
            raise BadInput(f"{place}, row {wrong[0] + 1}: frame_index does not follow the row before; frames are "
                           "missing, doubled or out of order")
    state, action = (np.concatenate([columns[name] for name in chosen(columns)], axis=1)
                     for chosen in (state_columns, action_columns))
    return {"observation.state": state, "action": action}


def rate_of(columns: dict[str, np.ndarray], place: str) -> float | None:
    """Frames a second by the timestamps, None without. Raises BadInput where time does not go on."""
    clock = next((columns[name][:, 0] for name in ("timestamp", "time") if name in columns), None)
    if clock is None or len(clock) < 2:
        return None
    wrong = np.flatnonzero(~(np.diff(clock) > 0))
    if len(wrong):
        raise BadInput(f"{place}, row {wrong[0] + 1}: the timestamp does not go on from the row before; frames are "
                       "doubled or out of order")
    rate = float(1 / np.median(np.diff(clock)))
    return float(round(rate)) if abs(rate - round(rate)) < 0.02 * rate else rate


def check_rate(place: str, rate: float | None, stated: float | None) -> None:
    if rate is not None and stated is not None and abs(rate - stated) > 0.02 * stated:
        raise BadInput(f"{place}: {rate:g} frames a second, {stated:g} in the first episode; resample, or convert them "
                       "apart")


def cameras(folder: Path) -> dict[str, Frames]:
    """{feature: Frames} of the PNGs in a folder, of those in the folders below it, and of its films."""
    found = {f"observation.images.{p.stem}": film(p) for p in sorted(folder.glob("*.mp4"))}
    for place in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]:
        pictures = sorted(place.glob("*.png"), key=number_in)
        if pictures:
            found["observation.image" if place == folder else f"observation.images.{place.name}"] = stills(pictures)
    return found


def stills(pictures: list[Path]) -> Frames:
    """PNGs in the order of their numbers. Raises BadInput for one that is missing or doubled."""
    def frames() -> Iterator[np.ndarray]:
        first = number_in(pictures[0])
        for row, picture in enumerate(pictures):
            if number_in(picture) != first + row:
                raise BadInput(f"{picture}: expected number {first + row} here; a picture is missing or doubled")
            with readable(str(picture)):
                yield decoded(picture.read_bytes())
    return frames


def film(file: Path) -> Frames:
    return lambda: (picture for _, picture in film_frames(file))
