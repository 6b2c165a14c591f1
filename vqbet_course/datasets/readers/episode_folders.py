"""A folder of `episode_*/`, each with one CSV or parquet table and, optionally, cameras.

Columns `action*` are the action, `timestamp` and its like the time, `frame_index` the number of the frame; all others
are the state. Columns are matched by name. A camera is numbered PNGs or JPEGs of the episode's folder or of one below
it, or a video.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.clock import clocks_in, rate_of, seconds_of
from vqbet_course.datasets.images import decode_video, decoded, is_colour
from vqbet_course.datasets.readers.lerobot_dataset import as_array
from vqbet_course.datasets.source import BadEpisode, Episode, Frames, Source, readable

KIND = "folder of episode_*/"
TABLES, IMAGES, VIDEOS = (".csv", ".parquet"), (".png", ".jpg", ".jpeg"), (".mp4", ".mkv", ".avi", ".mov", ".webm")
OTHER_ACTIONS = re.compile(r"(acts?|cmd|commands?|controls?|targets?|goal_position)([._ ].*|\d*)")
"""Columns that are the action where none is called `action...`."""

Columns = dict[str, np.ndarray]
"""{column: (T, size)} of a table."""


def episode_folders(path: Path) -> list[Path]:
    """The folders of the episodes, by number."""
    return sorted((p for p in path.glob("episode_*") if p.is_dir()), key=lambda p: (numbers_in(p.name)[-1:], p.name))


def numbers_in(name: str) -> list[int]:
    """The whole numbers in a name, in order."""
    return [int(number[:18]) for number in re.findall(r"\d+", name)]


def accepts(path: Path) -> bool:
    """Whether a path is such a folder."""
    return path.is_dir() and bool(episode_folders(path))


def open_source(path: Path, choice: Choice) -> Source:
    """A source of all folders, with the cameras that any of them has. Raises BadInput for what cannot be read."""
    folders = episode_folders(path)
    columns, table = read_table(folders[0])
    known = choice.fps is not None
    stated = rate_of(seconds_of(columns, str(table), known))
    action, state = roles_of(columns, str(table))
    sizes: dict[str, tuple[int, ...]] = {}
    left_out = dict.fromkeys(clocks_in(columns), "the time or number of a frame, not observed")
    left_out |= {name: "text, not numbers" for name in columns if not is_numeric(columns[name])}
    for folder in folders:
        found, unread = cameras(folder)
        sizes |= {name: next(frames()).shape for name, frames in found.items() if name not in sizes}
        left_out |= unread

    def read(first: int) -> Iterator[Episode]:
        for number in range(first, len(folders)):
            columns, table = read_table(folders[number])
            place = f"{table}, episode {number}"
            clock = seconds_of(columns, place, known)
            if not known:
                check_rate(place, rate_of(clock), stated)
            check_columns(place, columns, action, state)
            yield Episode(numbers_of(columns, place, action, state), place, cameras(folders[number])[0], clock)

    names = {"observation.state": component_names(columns, state), "action": component_names(columns, action)}
    return Source(str(path), KIND, len(folders), read, choice.fps or stated, sizes, names=names, left_out=left_out)


def read_table(folder: Path) -> tuple[Columns, Path]:
    """The columns of the one table in a folder, and its path."""
    import pyarrow.csv
    import pyarrow.parquet

    tables = [p for p in sorted(folder.iterdir()) if p.suffix in TABLES]
    if len(tables) != 1:
        raise BadInput(f"{folder}: {len(tables)} tables found, expected one .csv or .parquet")
    file = tables[0]
    with readable(str(file)):
        table = (pyarrow.csv.read_csv if file.suffix == ".csv" else pyarrow.parquet.read_table)(file)
        names = table.column_names
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadInput(f"{file}: has two columns {twice}; name them differently")
        columns = {name: as_array(table[name], f"{file}: {name}") for name in names}
    for name, values in columns.items():
        wrong = [] if is_numeric(values) else [i for i, v in enumerate(values[:, 0]) if not is_number(v)]
        if wrong and len(wrong) < len(values):  # a column of text alone is another thing
            raise BadInput(
                f"{file}, row {wrong[0]}: {name} is {str(values[wrong[0], 0])!r}, not a number; "
                "repair it or remove the column"
            )
    return columns, file


def is_numeric(values: np.ndarray) -> bool:
    """Whether a column holds numbers alone."""
    return values.dtype.kind in "fiub"


def is_number(text: Any) -> bool:
    """Whether a cell says a finite number."""
    try:
        return bool(np.isfinite(float(text)))
    except (TypeError, ValueError):
        return False


def roles_of(columns: Columns, place: str) -> tuple[list[str], list[str]]:
    """The columns of the action and those of the state. Raises BadInput where there are none."""
    numbers = [name for name in columns if is_numeric(columns[name]) and name not in clocks_in(columns)]
    action = [name for name in numbers if name.startswith("action")] or [
        name for name in numbers if OTHER_ACTIONS.fullmatch(name)
    ]
    state = [name for name in numbers if name not in action]
    if not action or not state:
        raise BadInput(
            f"{place}: no columns for {'the state' if action else 'the action'}; name those "
            "of the action `action...`, every other one is state"
        )
    return action, state


def check_columns(place: str, columns: Columns, action: list[str], state: list[str]) -> None:
    """Raise BadInput unless the columns are those of the first episode, in whatever order."""
    found, wanted = {name for part in roles_of(columns, place) for name in part}, {*action, *state}
    if found != wanted:
        differ = ", ".join(sorted(found ^ wanted)[:4])
        what = f"its columns are not those of the first episode ({differ})"
        raise BadEpisode(place, what, "or give all of them the same columns")


def component_names(columns: Columns, chosen: list[str]) -> list[str]:
    """A name for each number: the column's, numbered where it is a list."""
    wide = {name: columns[name].shape[1] for name in chosen}
    return [name if n == 1 else f"{name}_{i}" for name, n in wide.items() for i in range(n)]


def numbers_of(columns: Columns, place: str, action: list[str], state: list[str]) -> Columns:
    """State and action, side by side in this order. Raises BadInput for frames that are doubled or out of order."""
    if "frame_index" in columns:
        wrong = np.flatnonzero(np.diff(columns["frame_index"][:, 0]) != 1)
        if len(wrong):
            raise BadInput(
                f"{place}, row {wrong[0] + 1}: frame_index does not follow the row before; frames are "
                "missing, doubled or out of order"
            )
    return {
        "observation.state": np.concatenate([columns[name] for name in state], axis=1),
        "action": np.concatenate([columns[name] for name in action], axis=1),
    }


def check_rate(place: str, rate: float | None, stated: float | None) -> None:
    """Raise BadInput where an episode has another rate than the first."""
    if rate is not None and stated is not None and abs(rate - stated) > 0.02 * stated:
        raise BadInput(
            f"{place}: {rate:g} frames a second, {stated:g} in the first episode; resample, or convert them apart"
        )


def cameras(folder: Path) -> tuple[dict[str, Frames], dict[str, str]]:
    """{feature: Frames} of the videos and numbered images in a folder and those below it, and {file: why it is not
    read}."""
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".") and p.suffix not in TABLES
    )
    videos = [p for p in files if p.suffix.lower() in VIDEOS]
    stems = [p.stem for p in videos]
    found = {
        f"observation.images.{p.stem if stems.count(p.stem) == 1 else dotted(p.with_suffix(''), folder)}": frames_of_video(
            p
        )
        for p in videos
    }
    left_out = {f"*{p.suffix}": "such files are not read" for p in files if p.suffix.lower() not in (*IMAGES, *VIDEOS)}
    images = [p for p in files if p.suffix.lower() in IMAGES]
    for place, group in itertools.groupby(images, key=lambda p: p.parent):
        for name, paths in series(list(group)).items():
            if not is_colour(paths[0]):
                left_out[paths[0].parent.name] = "images that are not 8 bits a channel, like depth, are not read"
                continue
            parts = [part for part in (dotted(place, folder), name) if part]
            found[f"observation.images.{'.'.join(parts)}" if parts else "observation.image"] = frames_of_images(paths)
    return found, left_out


def dotted(path: Path, folder: Path) -> str:
    """A path below a folder with dots between its parts."""
    return ".".join(path.relative_to(folder).parts)


def series(files: list[Path]) -> dict[str, list[Path]]:
    """Numbered images as one series or several, by what their names have beside the number of the frame; a series
    alone has no name. The number of the frame is the one that changes most."""
    found: dict[str, list[tuple[int, Path]]] = {}
    by_count: dict[int, list[Path]] = {}
    for file in files:
        by_count.setdefault(len(numbers_in(file.stem)), []).append(file)
    for width, group in by_count.items():
        numbers = [numbers_in(file.stem) for file in group]
        frame = max(range(width), key=lambda i: (len({row[i] for row in numbers}), i)) if width else -1
        for file, row in zip(group, numbers, strict=True):
            found.setdefault(without_number(file.stem, frame), []).append((row[frame] if width else 0, file))
    ordered = {name: [path for _, path in sorted(group)] for name, group in found.items()}
    return ordered if len(ordered) > 1 else {"": next(iter(ordered.values()))}


def without_number(stem: str, place: int) -> str:
    """A name without the number at this place: `000012_color_1` without number 0 is `color_1`."""
    pieces = re.split(r"(\d+)", stem)
    return "".join(piece for i, piece in enumerate(pieces) if i != 2 * place + 1).strip("_-. ")


def frames_of_images(paths: list[Path]) -> Frames:
    """Images in the order of their numbers. Raises BadInput for one that is missing or doubled."""

    def frames() -> Iterator[np.ndarray]:
        before: list[int] | None = None
        for path in paths:
            numbers = numbers_in(path.stem)
            if before is not None and sum(abs(a - b) for a, b in zip(numbers, before, strict=False)) != 1:
                raise BadInput(
                    f"{path}: expected number {max(before, default=-1) + 1} here; an image is missing or doubled"
                )
            before = numbers
            with readable(str(path)):
                yield decoded(path.read_bytes())

    return frames


def frames_of_video(file: Path) -> Frames:
    """The images of a video."""
    return lambda: (image for _, image in decode_video(file))
