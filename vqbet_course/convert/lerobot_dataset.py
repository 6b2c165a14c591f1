"""A LeRobotDataset folder (v3, and v2 where it has the same columns), read straight from its parquet files."""
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.contract import PUSHT, BadInput, Contract
from vqbet_course.convert.pictures import decoded
from vqbet_course.convert.source import UNSTATED, Episode, Frames, Source, is_state_or_action, readable
from vqbet_course.files import read_json

KIND = "LeRobotDataset"
CLOCKS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""What LeRobot keeps about every frame."""

Piece = tuple[Path, int, int, dict[str, np.ndarray]]
"""What one file holds of an episode: its rows from, to, and their numbers {column: (rows, size)}."""


def accepts(path: Path) -> bool:
    return (path / "meta" / "info.json").exists() or (path / "data" / "chunk-000").exists()


def open_source(path: Path, fps: float | None) -> Source:
    info = read_info(path)
    features = info["features"]
    sizes = {n: tuple(f["shape"]) for n, f in features.items() if f["dtype"] in ("image", "video")}
    columns = [n for n, f in features.items() if n not in sizes and f["dtype"] not in ("string", "language")]
    stored = [n for n in features if n in sizes and features[n]["dtype"] == "image"]
    promised = read_promises(path)

    def read(first: int) -> Iterator[Episode]:
        found = frames = 0
        for number, group in itertools.groupby(pieces(path, columns, set(features)), key=lambda piece: piece[0]):
            parts = [part for _, part in group]
            episode = joined(f"{parts[0][0]}, episode {number}", number, found, parts, info["fps"])
            check_promise(episode, *promised.get(number, (len(episode), None)))
            found, frames = found + 1, frames + len(episode)
            if number >= first:
                images = {n: frames_of(parts, n) if n in stored else film(path, n) for n in sizes}
                yield Episode(episode.numbers, episode.place, images)
        if (found, frames) != (info["total_episodes"], info["total_frames"]):
            raise BadInput(f"{path}: {found} episodes of {frames} frames found, meta/info.json promises "
                           f"{info['total_episodes']} of {info['total_frames']}; copy the dataset again")

    names = {n: list(f["names"]) for n, f in features.items() if n in columns and isinstance(f.get("names"), list)}
    return Source(str(path), KIND, info["total_episodes"], read, info["fps"], sizes, names=names,
                  **read_facts(path, info))


def read_info(path: Path) -> dict[str, Any]:
    """meta/info.json, as far as it is needed here. Raises BadInput for anything unexpected."""
    file = path / "meta" / "info.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        known = {"features": dict(info["features"]), "fps": float(info["fps"]), "robot": info.get("robot_type"),
                 "total_frames": int(info["total_frames"]), "total_episodes": int(info["total_episodes"])}
        for name, feature in known["features"].items():
            if not re.fullmatch(r"u?int\d+|float\d+|bool|image|video|string|language", feature["dtype"]):
                raise ValueError(f"{name} is of unknown dtype {feature['dtype']}")
            feature["shape"] = [int(size) for size in feature["shape"]]
        for name in ("action", *CLOCKS):
            if name not in known["features"]:
                raise ValueError(f"no feature {name}")
        if not 0 < known["fps"] < 1e6:
            raise ValueError(f"fps is {known['fps']}")
        return known
    except FileNotFoundError:
        raise BadInput(f"{path}: not a LeRobotDataset (no meta/info.json)") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{file}: not valid ({error!r}); copy the dataset again") from None


def read_facts(path: Path, info: dict[str, Any]) -> dict[str, Any]:
    """Units, task, robot, operator and license, as far as the dataset states them."""
    import pyarrow.parquet as pq

    facts: dict[str, Any] = {"robot": info["robot"] or UNSTATED}
    tasks, contract, card = path / "meta" / "tasks.parquet", path / "meta" / "contract.json", path / "README.md"
    if tasks.exists():
        facts["task"] = str(pq.read_table(tasks).column("task")[0])
    if contract.exists():
        facts["units"] = read_json(contract, Contract.from_dict).units()
        facts["operator"] = read_json(contract, lambda values: str(values.get("operator", UNSTATED)))
    elif all(info["features"].get(n, {}).get("shape") == [f.size] for n, f in PUSHT.features().items()):
        facts["units"] = PUSHT.units()
    stated = re.search(r"^license: *(\S+)", card.read_text(encoding="utf-8"), re.M) if card.exists() else None
    return facts | {"license": stated[1] if stated else UNSTATED}


def read_promises(path: Path) -> dict[int, tuple[int, str | None]]:
    """{episode: (length, checksum or None)} as meta/episodes has them; v2 keeps them elsewhere."""
    import pyarrow.parquet as pq

    promised: dict[int, tuple[int, str | None]] = {}
    for file in sorted((path / "meta" / "episodes").glob("*/*.parquet")):
        with readable(str(file)):
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            wanted = [n for n in ("episode_index", "length", "checksum") if n in parquet.schema_arrow.names]
            for row in parquet.read(wanted).to_pylist():
                promised[row["episode_index"]] = (row["length"], row.get("checksum"))
    return promised


def pieces(path: Path, columns: list[str], features: set[str]) -> Iterator[tuple[int, Piece]]:
    """Of every file, in order, its numbers cut by episode."""
    import pyarrow.parquet as pq

    files = sorted((path / "data").glob("*/*.parquet"))
    if not files:
        raise BadInput(f"{path}: no parquet file under data/; copy the dataset again")
    for file in files:
        with readable(str(file)):
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            unknown = set(parquet.schema_arrow.names) - features
            if unknown:
                raise BadInput(f"{file}: column {sorted(unknown)[0]} is not in meta/info.json; copy the dataset again")
            table = parquet.read(columns)
            numbers = {name: as_array(table[name], f"{file}: {name}") for name in columns}
        episode = numbers["episode_index"][:, 0]
        cuts = [0, *(np.flatnonzero(np.diff(episode)) + 1), len(episode)]
        for begin, end in itertools.pairwise(map(int, cuts)):
            yield int(episode[begin]), (file, begin, end, {n: v[begin:end] for n, v in numbers.items()})


def as_array(column: Any, place: str) -> np.ndarray:
    """A parquet column of numbers or of equally long lists, as (N, size). Raises BadInput for gaps."""
    values = column.to_numpy()
    if values.dtype != object:
        return values[:, None]
    for row, value in enumerate(values):
        if np.shape(value) != np.shape(values[0]) or value is None:
            raise BadInput(f"{place} has shape {np.shape(value)} in row {row}, expected {np.shape(values[0])}; "
                           "repair or drop that episode")
    return np.stack(values).reshape(len(values), -1)


def joined(place: str, number: int, expected: int, parts: list[Piece], fps: float) -> Episode:
    """One episode from its pieces. Raises BadInput, naming the row, when its clocks do not run as they should."""
    numbers = {name: np.concatenate([numbers[name] for *_, numbers in parts]) for name in parts[0][3]}
    clock = {name: numbers.pop(name)[:, 0] for name in CLOCKS}
    frames = np.arange(len(clock["frame_index"]))
    if number != expected:
        raise BadInput(f"{place}: expected episode {expected} here; the episodes are out of order or one is missing")
    for name, wrong in {
        "frame_index is not": clock["frame_index"] != frames,
        f"timestamp is not, at {fps:g} frames a second,": ~(np.abs(clock["timestamp"] * fps - frames) < 0.1),
    }.items():
        if wrong.any():
            row = int(np.argmax(wrong))
            raise BadInput(f"{place}, row {row}: {name} that of frame {row}; "
                           "frames are missing, doubled or out of order")
    kept = {n: v.astype(np.float32) if is_state_or_action(n) else v for n, v in numbers.items()}
    return Episode(kept, place)


def check_promise(episode: Episode, length: int, checksum: str | None) -> None:
    """Raise BadInput unless the episode is what meta/episodes says it is."""
    if len(episode) != length:
        raise BadInput(f"{episode.place}: {len(episode)} frames found, meta/episodes promises {length}; "
                       "copy the dataset again")
    if checksum is not None and episode.checksum() != checksum:
        raise BadInput(f"{episode.place}: states or actions are not those that were written (their checksum "
                       "differs); copy the dataset again")


def frames_of(parts: list[Piece], column: str) -> Frames:
    """Pictures kept as PNG or JPEG inside the parquet files, a few at a time."""
    def frames() -> Iterator[np.ndarray]:
        for file, begin, end, _ in parts:
            for data in encoded_pictures(file, column, begin, end):
                yield decoded(data)
    return frames


def encoded_pictures(file: Path, column: str, begin: int, end: int) -> Iterator[bytes]:
    """The encoded pictures of rows begin..end-1 of a parquet file, passing over the row groups before them."""
    import pyarrow.parquet as pq

    parquet, first = pq.ParquetFile(file), 0
    for group in range(parquet.num_row_groups):
        last = first + parquet.metadata.row_group(group).num_rows
        if first < end and last > begin:
            row = first
            for batch in parquet.iter_batches(16, row_groups=[group], columns=[column]):
                wanted = batch.slice(max(0, begin - row), max(0, end - max(row, begin)))
                yield from (picture["bytes"] for picture in wanted.column(0).to_pylist())
                row += len(batch)
        first = last


def film(path: Path, column: str) -> Frames:
    """Frames that are kept as a film, which is not read here."""
    def frames() -> Iterator[np.ndarray]:
        raise BadInput(f"{path}: {column} is kept as a film; it is a LeRobotDataset already, so use it as it is")
        yield
    return frames
