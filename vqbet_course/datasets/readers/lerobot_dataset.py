"""A LeRobotDataset folder (v3, and v2 where it has the same columns), read straight from its parquet files."""

import itertools
import json
import posixpath
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json
from vqbet_course.core.specs import Contract
from vqbet_course.datasets.choice import Choice, kept_numbers
from vqbet_course.datasets.images import decode_video, decoded
from vqbet_course.datasets.source import (
    TASK_INDEX,
    UNSTATED,
    BadEpisode,
    Episode,
    Frames,
    Source,
    is_state_or_action,
    readable,
)

KIND = "LeRobotDataset"
CLOCKS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""What LeRobot keeps about every frame."""

Piece = tuple[Path, int, int, dict[str, np.ndarray]]
"""What one file holds of an episode: its rows from, to, and their numbers {column: (rows, size)}."""


def accepts(path: Path) -> bool:
    """Whether a path is such a folder."""
    return (path / "meta" / "info.json").exists() or (path / "data" / "chunk-000").exists()


def open_source(path: Path, choice: Choice) -> Source:
    """A source of all its episodes. Raises BadInput for what cannot be read."""
    info = read_info(path)
    check_stated_rate(path, info["fps"], choice.fps)
    features = info["features"]
    sizes = {n: camera_size(f) for n, f in features.items() if f["dtype"] in ("image", "video")}
    left_out = {
        n: f"{' x '.join(map(str, size))}: only cameras of three channels are read"
        for n, size in sizes.items()
        if len(size) != 3 or size[2] != 3
    }
    sizes = {n: size for n, size in sizes.items() if n not in left_out}
    left_out |= {n: "text, not numbers" for n, f in features.items() if f["dtype"] in ("string", "language")}
    columns = [n for n in features if n not in sizes and n not in left_out]
    videos = [n for n in sizes if features[n]["dtype"] == "video"]
    promised = read_promises(path, videos)
    check_checksums(path, promised, info["v3"])
    dropped = choice.drop_episodes
    kept = kept_numbers(str(path), stored_numbers(path), dropped) if dropped else None
    tasks = read_tasks(path)

    def read(first: int) -> Iterator[Episode]:
        found = frames = 0
        for number, group in itertools.groupby(pieces(path, columns, set(features)), key=lambda piece: piece[0]):
            if number in dropped:
                continue
            if promised and number not in promised:
                raise BadInput(f"{path}: meta/episodes says nothing of episode {number}; copy the dataset again")
            parts, promise = [part for _, part in group], promised.get(number, {})
            check_number(parts[0][0], number, found if kept is None else kept[found])
            episode = episode_of_pieces(f"{parts[0][0]}, episode {number}", parts, info["fps"], len(tasks) > 1)
            check_promise(episode, promise)
            found, frames = found + 1, frames + len(episode)
            if found > first:
                in_videos = {n: episode_in_video(path, info, n, number, promise, len(episode)) for n in videos}
                images = {n: in_videos[n] if n in in_videos else frames_of(parts, n) for n in sizes}
                yield Episode(episode.numbers, episode.place, images)
        if kept is None and (found, frames) != (info["total_episodes"], info["total_frames"]):
            raise BadInput(
                f"{path}: {found} episodes of {frames} frames found, meta/info.json promises "
                f"{info['total_episodes']} of {info['total_frames']}; copy the dataset again"
            )

    names = {n: component_names(f) for n, f in features.items() if n in columns and component_names(f)}
    return Source(
        str(path),
        KIND,
        info["total_episodes"] if kept is None else len(kept),
        read,
        info["fps"],
        sizes,
        names=names,
        left_out=left_out,
        dropped=dropped,
        numbers=tuple(kept or ()),
        tasks=tuple(tasks) if len(tasks) > 1 else (),
        task="; ".join(tasks) or UNSTATED,
        **read_facts(path, info),
    )


def check_stated_rate(path: Path, stated: float, asked: float | None) -> None:
    """Raise BadInput where other frames a second are asked for than a dataset states."""
    if asked not in (None, stated):
        raise BadInput(f"{path}: states {stated:g} frames a second, not {asked:g}; leave --fps out")


def component_names(feature: dict[str, Any]) -> list[str]:
    """The names of a feature's numbers: a list, or lists in a dictionary, as LeRobot v2 has them; empty without."""
    names = feature.get("names")
    parts = [names] if isinstance(names, list) else list(names.values()) if isinstance(names, dict) else []
    if not all(isinstance(part, list) for part in parts):
        return []
    together = [str(name) for part in parts for name in part]
    return together if len(together) == int(np.prod(feature["shape"], dtype=np.float64)) else []


def check_number(file: Path, number: int, expected: int) -> None:
    """Raise BadEpisode unless this is the episode that comes next."""
    if number != expected:
        why = f"expected episode {expected} here; the episodes are out of order or one is missing"
        raise BadEpisode(f"{file}, episode {number}", why, number=expected)


def stored_numbers(path: Path) -> set[int]:
    """The numbers of all episodes that the parquet files hold."""
    import pyarrow.parquet as pq

    found: set[int] = set()
    for file in sorted((path / "data").glob("*/*.parquet")):
        with readable(str(file)):
            found |= set(pq.read_table(file, columns=["episode_index"])["episode_index"].to_pylist())
    return found


def read_tasks(path: Path) -> list[str]:
    """The tasks at the place of their task_index, from v3's tasks.parquet or v2's tasks.jsonl; empty without."""
    import pyarrow.parquet as pq

    table, lines = path / "meta" / "tasks.parquet", path / "meta" / "tasks.jsonl"
    rows: list[dict[str, Any]] = []
    if table.exists():
        with readable(str(table)):
            rows = pq.read_table(table).to_pylist()
    elif lines.exists():
        with readable(str(lines)):
            rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()]
    found: dict[int, str] = {}
    for row in rows:
        texts = [value for value in row.values() if isinstance(value, str)] if isinstance(row, dict) else []
        index = row.get("task_index") if isinstance(row, dict) else None
        if type(index) is not int or not 0 <= index < MOST_TASKS or len(texts) != 1 or index in found:
            raise BadInput(f"{table if table.exists() else lines}: {str(row)[:80]} is not a task and its task_index")
        found[index] = texts[0]
    return [found.get(index, f"task {index}") for index in range(max(found, default=-1) + 1)]


MOST_TASKS = 10**5


def read_info(path: Path) -> dict[str, Any]:
    """meta/info.json, as far as it is needed here. Raises BadInput for anything unexpected."""
    file = path / "meta" / "info.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        known = {
            "features": dict(info["features"]),
            "fps": float(info["fps"]),
            "robot": info.get("robot_type"),
            "total_frames": int(info["total_frames"]),
            "total_episodes": int(info["total_episodes"]),
            "v3": str(info.get("codebase_version")).startswith("v3"),
            "video_path": str(info.get("video_path")),
            "chunks_size": max(1, int(info.get("chunks_size", 1000))),
        }
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
    """Units, robot, operator and license, as far as the dataset states them."""
    facts: dict[str, Any] = {"robot": info["robot"] or UNSTATED}
    contract, card = path / "meta" / "contract.json", path / "README.md"
    if contract.exists():
        facts["units"] = read_json(contract, Contract.from_dict).units()
        facts["operator"] = read_json(contract, lambda values: str(values.get("operator", UNSTATED)))
    stated = re.search(r"^license: *(\S+)", card.read_text(encoding="utf-8"), re.M) if card.exists() else None
    return facts | {"license": stated[1] if stated else UNSTATED}


def camera_size(feature: dict[str, Any]) -> tuple[int, ...]:
    """(height, width, channels), also where the channels are written first."""
    shape, names = feature["shape"], feature.get("names")
    first = str(names[0]).startswith("channel") if isinstance(names, list) and names else shape[:1] == [3] != shape[2:]
    return (*shape[1:], shape[0]) if len(shape) == 3 and first else tuple(shape)


def read_promises(path: Path, videos: list[str]) -> dict[int, dict[str, Any]]:
    """{episode: what meta/episodes says of its length, its checksum and its place in the videos}; v2 keeps the first
    elsewhere and has a video per episode. Raises BadInput where number or length is missing, or a number is doubled."""
    import pyarrow.parquet as pq

    promised: dict[int, dict[str, Any]] = {}
    columns = [f"videos/{name}/{what}" for name in videos for what in ("chunk_index", "file_index", "from_timestamp")]
    for file in sorted((path / "meta" / "episodes").glob("*/*.parquet")):
        with readable(str(file)):
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            known = parquet.schema_arrow.names
            for name in ("episode_index", "length"):
                if name not in known:
                    raise BadInput(f"{file}: no column {name}; copy the dataset again")
            wanted = ["episode_index", "length", "checksum", *columns]
            for row in parquet.read([name for name in wanted if name in known]).to_pylist():
                number = row["episode_index"]
                if type(number) is not int or type(row["length"]) is not int:
                    raise BadInput(
                        f"{file}: episode_index {number} of length {row['length']}: both are whole numbers; "
                        "copy the dataset again"
                    )
                if number in promised:
                    raise BadInput(
                        f"{file}: has episode {number} twice, or another file has it; copy the dataset again"
                    )
                promised[number] = row
    return promised


def check_checksums(path: Path, promised: dict[int, dict[str, Any]], v3: bool) -> None:
    """Raise BadInput where meta/episodes says nothing of a v3 dataset, or where a checksum is missing from a dataset that
    this course wrote: it has a meta/contract.json."""
    if v3 and not promised:
        raise BadInput(f"{path}: nothing in meta/episodes, which every LeRobotDataset v3 has; copy the dataset again")
    if not (path / "meta" / "contract.json").exists():
        return
    without = next((number for number, row in promised.items() if not row.get("checksum")), None)
    if without is not None or not promised:
        raise BadInput(
            f"{path}: meta/episodes has no checksum of episode {without or 0}; copy the dataset again, or remove "
            "meta/contract.json if another tool changed the dataset on purpose"
        )


def pieces(path: Path, columns: list[str], features: set[str]) -> Iterator[tuple[int, Piece]]:
    """Of every file, in order, its numbers cut by episode, a row group at a time."""
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
        first = 0
        for group in range(parquet.num_row_groups):
            with readable(str(file)):
                table = parquet.read_row_group(group, columns)
                numbers = {name: as_array(table[name], f"{file}: {name}", first) for name in columns}
            episode = numbers["episode_index"][:, 0]
            cuts = [0, *(np.flatnonzero(np.diff(episode)) + 1), len(episode)] if len(episode) else []
            for begin, end in itertools.pairwise(map(int, cuts)):
                cut = {n: v[begin:end] for n, v in numbers.items()}
                yield int(episode[begin]), (file, first + begin, first + end, cut)
            first += len(episode)


def as_array(column: Any, place: str, first: int = 0) -> np.ndarray:
    """A parquet column of numbers or of equally long lists, as (N, size). Raises BadInput for gaps, naming the row
    (`first`: the number of the first)."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    if not (types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type)):
        return column.to_numpy()[:, None]
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    wrong = np.flatnonzero(sizes != sizes[:1])
    if len(wrong) or (len(sizes) and column.null_count):
        row = wrong[0] if len(wrong) else 0
        raise BadInput(
            f"{place} has {sizes[row]} numbers in row {first + row}, expected {sizes[0] or 'some'}; "
            "repair or drop that episode"
        )
    values = pc.list_flatten(column)
    while types.is_nested(values.type):
        values = pc.list_flatten(values)
    return values.to_numpy().reshape(len(sizes), -1)


def episode_of_pieces(place: str, parts: list[Piece], fps: float, many_tasks: bool) -> Episode:
    """One episode from its pieces, with its task_index where there are many tasks. Raises BadInput, naming the row, when
    its clocks do not run as they should."""
    numbers = {name: np.concatenate([numbers[name] for *_, numbers in parts]) for name in parts[0][3]}
    tasks = {TASK_INDEX: numbers[TASK_INDEX]} if many_tasks else {}
    clock = {name: numbers.pop(name)[:, 0] for name in CLOCKS}
    frames = np.arange(len(clock["frame_index"]))
    for name, wrong in {
        "frame_index is not": clock["frame_index"] != frames,
        f"timestamp is not, at {fps:g} frames a second,": ~(np.abs(clock["timestamp"] * fps - frames) < 0.1),
    }.items():
        if wrong.any():
            row = int(np.argmax(wrong))
            what = f"{name} that of frame {row}: frames are missing, doubled or out of order"
            raise BadEpisode(place, what, row=row)
    kept = {n: v.astype(np.float32) if is_state_or_action(n) else v for n, v in numbers.items()}
    return Episode(kept | tasks, place)


def check_promise(episode: Episode, promise: dict[str, Any]) -> None:
    """Raise BadInput unless the episode is what meta/episodes says it is."""
    if len(episode) != promise.get("length", len(episode)):
        raise BadInput(
            f"{episode.place}: {len(episode)} frames found, meta/episodes promises {promise['length']}; "
            "copy the dataset again"
        )
    if promise.get("checksum") is not None and episode.checksum() != promise["checksum"]:
        raise BadInput(
            f"{episode.place}: states or actions are not those that were written (their checksum "
            "differs); copy the dataset again"
        )


def frames_of(parts: list[Piece], column: str) -> Frames:
    """Images kept as PNG or JPEG inside the parquet files, a few at a time."""

    def frames() -> Iterator[np.ndarray]:
        for file, begin, end, _ in parts:
            for data in encoded_images(file, column, begin, end):
                yield decoded(data)

    return frames


def encoded_images(file: Path, column: str, begin: int, end: int) -> Iterator[bytes]:
    """The encoded images of rows begin..end-1 of a parquet file, passing over the row groups before them."""
    import pyarrow.parquet as pq

    parquet, first = pq.ParquetFile(file), 0
    for group in range(parquet.num_row_groups):
        last = first + parquet.metadata.row_group(group).num_rows
        if first < end and last > begin:
            row = first
            for batch in parquet.iter_batches(16, row_groups=[group], columns=[column]):
                wanted = batch.slice(max(0, begin - row), max(0, end - max(row, begin)))
                yield from (image["bytes"] for image in wanted.column(0).to_pylist())
                row += len(batch)
        first = last


def filled_in(template: str, place: str, **values: Any) -> str:
    """A path below the dataset from its template, like `videos/{video_key}/file-{file_index:03d}.mp4`.

    Raises BadInput for other fields, for wide ones, and for a path that leaves the dataset."""
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is not None and (name not in values or conversion or not re.fullmatch(r"(0?\d{0,2}d)?", form or "")):
            raise BadInput(
                f"{place}: video_path has a field {{{name}:{form}}}; known are {', '.join(values)}, with a "
                "width like 03d"
            )
    filled = posixpath.normpath(template.format(**values))
    if filled.startswith(("/", "../")) or filled == ".." or "\\" in filled or ":" in filled:
        raise BadInput(f"{place}: video_path leads out of the dataset, to {filled}; it is not read")
    return filled


def episode_in_video(
    path: Path, info: dict[str, Any], column: str, number: int, promise: dict[str, Any], n: int
) -> Frames:
    """The n images of an episode that are kept in a video: a part of one (v3), or one of its own (v2)."""

    def frames() -> Iterator[np.ndarray]:
        at = {what: promise.get(f"videos/{column}/{what}") for what in ("chunk_index", "file_index")}
        file = path / filled_in(
            info["video_path"],
            f"{path}/meta/info.json",
            video_key=column,
            **at,
            episode_index=number,
            episode_chunk=number // info["chunks_size"],
        )
        begin = promise.get(f"videos/{column}/from_timestamp") or 0.0
        if not file.is_file():
            raise BadInput(f"{file}: missing; it has the images of episode {number}, copy the dataset again")
        yield from in_time(decode_video(file, begin), begin, info["fps"], n, f"{file}, episode {number}")

    return frames


def in_time(
    video: Iterator[tuple[float, np.ndarray]], begin: float, fps: float, n: int, place: str
) -> Iterator[np.ndarray]:
    """The n images due at `begin`, begin + 1 / fps, ... Raises BadInput where the video has none at that time."""
    row = 0
    for time, image in video:
        late = (time - begin) * fps - row
        if late > 0.5:
            break
        if late > -0.5:
            yield image
            row += 1
        if row == n:
            return
    raise BadInput(f"{place}, row {row}: the video has no image at {begin + row / fps:.3f} s; copy the dataset again")
