"""A source, written as a LeRobotDataset v3: streaming, resumable, checked, and there whole or not at all.

Frames go to data/chunk-000/file-NNN.parquet, images among them as PNG, or to videos of the same number. What is known
of the episodes in a file, a checksum of each included, goes to the file of the same name under meta/episodes, once
the data lie there. So the half-written dataset itself says how far it is, and a killed conversion goes on after its
last whole file. Several processes write a part of the episodes each, into chunks of files of their own.
"""

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.errors import BadInput, CannotWrite
from vqbet_course.core.executor import processes
from vqbet_course.core.io import drop_partials, in_plain_words, write_atomically, write_json, write_text
from vqbet_course.core.progress import progress
from vqbet_course.core.specs import Contract, Field
from vqbet_course.datasets.card import data_card
from vqbet_course.datasets.choice import Choice, renamed
from vqbet_course.datasets.images import in_step
from vqbet_course.datasets.readers import lerobot_dataset
from vqbet_course.datasets.source import TASK_INDEX, UNSTATED, Episode, Source, check_cameras, last_change
from vqbet_course.datasets.storage import (
    LOSS,
    VIDEO_PATH,
    PngCells,
    Storage,
    check_encodable,
    signature,
    video_feature,
)
from vqbet_course.datasets.storage import videos as videos_of

if TYPE_CHECKING:
    import pyarrow as pa

FILE_BYTES = 8e6  # of data, before they are compressed, after which a file is full: what a killed conversion loses
GROUP_BYTES = 8e6  # after which a row group is written: about what is in memory at most
FILES_PER_CHUNK = 1000
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
SAMPLED = 50  # images of an episode that its statistics look at

Rows = list[dict[str, Any]]
"""What meta/episodes says of each episode."""


def write_dataset(
    source: Source,
    out: Path,
    quiet: bool = False,
    videos: bool = False,
    jobs: int = 1,
    reopen: Callable[[], Source] | None = None,
) -> Path:
    """Write all episodes of a source into `out`, or go on where a killed process stopped.

    `videos`: images as MP4, in LeRobot's way, instead of PNG; `jobs`: processes that read, resize and encode, each a part
    of the episodes; `reopen` opens the same source in each of them, without it there is one.
    Raises BadInput if `out` holds something already, for episodes that cannot be used, and without space.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BadInput(f"{out} exists and is not an empty folder: name another one or remove it")
    source = with_safe_names(source)
    for name, size in source.image_sizes.items():
        if len(size) != 3 or size[2] != 3:
            raise BadInput(f"{source.path}: {name} has shape {size}, expected (height, width, 3)")
    if videos:
        check_encodable(source.path, source.image_sizes)
    work = out.with_name(f".{out.name}.partial")
    begin(source, work, videos, jobs if reopen else 1)
    try:
        if reopen is None or jobs == 1:
            write_part(source, work, videos, Part(0, source.n_episodes), quiet)
        else:
            write_parts(source, reopen, work, videos, jobs, quiet)
    except CannotWrite:
        if not meta_files(work):  # nothing to go on from
            shutil.rmtree(work)
        raise
    except BadInput:  # going on would meet it again
        shutil.rmtree(work)
        raise
    finish(source, work, videos)
    verify(source, work, LOSS if videos else 0.0)
    with in_plain_words(out):
        (work / MARK).unlink()
        if out.exists():
            out.rmdir()
        os.replace(work, out)
    return out


MARK = "conversion.json"


def with_safe_names(source: Source) -> Source:
    """The source with features whose names can be those of files: letters, digits, dots, dashes and underscores."""
    features = [*source.first.numbers, *source.image_sizes]
    unsafe = {name: re.sub(r"[^\w.\-]|^\.+|(?<=\.)\.+", "_", name, flags=re.ASCII) for name in features}
    unsafe = {name: safe for name, safe in unsafe.items() if name != safe}
    return renamed(source, unsafe) if unsafe else source


def begin(source: Source, work: Path, videos: bool = False, jobs: int = 1) -> None:
    """Make the folder to work in, or keep the one there is if it belongs to this source as it is now and to what is
    chosen of it now."""
    mark = {
        "source": source.path,
        "kind": source.kind,
        "fps": source.rate,
        "episodes": source.n_episodes,
        "images": {name: list(size) for name, size in sorted(source.image_sizes.items())},
        "videos": videos,
        "jobs": jobs,
        "features": sorted(source.first.numbers),
        "choice": source.choice,
        "tasks": list(source.all_tasks),
        "changed": last_change(Path(source.path)),
    }
    file = work / MARK
    with in_plain_words(work):
        if not file.exists() or file.read_text(encoding="utf-8") != json.dumps(mark):
            shutil.rmtree(work, ignore_errors=True)
            write_text(file, json.dumps(mark))
        for chunk in work.glob("**/chunk-*"):
            drop_partials(chunk)


def data_file_name(number: int) -> str:
    """The place of data file `number` below data/ and meta/episodes/."""
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return f"chunk-{chunk:03d}/file-{file:03d}.parquet"


def number_of(file: Path) -> int:
    """The number of a data file, or of the file of meta/episodes that belongs to it, from its place."""
    return int(file.parent.name.split("-")[1]) * FILES_PER_CHUNK + int(file.stem.split("-")[1])


# --- data -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Consecutive episodes that one process writes, from number `first` up to `last`; their first frame is `frame`, and
    their data files have numbers from `file` on. A part begins a chunk of files of its own."""

    first: int
    last: int
    frame: int = 0
    file: int = 0

    @property
    def chunks(self) -> range:
        """The chunks of files that its data files lie in, at most: each file holds at least one episode."""
        chunk = self.file // FILES_PER_CHUNK
        return range(chunk, chunk + -(-(self.last - self.first) // FILES_PER_CHUNK))


def parts_of(lengths: Sequence[int], n: int) -> list[Part]:
    """At most n parts of about equal numbers of frames, from the lengths (E,) of all episodes."""
    ends = np.cumsum(lengths)
    cuts = sorted({0, *(np.searchsorted(ends, ends[-1] * np.arange(1, n) / n) + 1).tolist(), len(lengths)})
    parts: list[Part] = []
    for first, last in itertools.pairwise(cuts):
        file = parts[-1].chunks.stop * FILES_PER_CHUNK if parts else 0
        parts.append(Part(first, last, int(ends[first - 1]) if first else 0, file))
    return parts


def write_parts(source: Source, reopen: Callable[[], Source], work: Path, videos: bool, jobs: int, quiet: bool) -> None:
    """Write all episodes by several processes. Raises BadInput as `write_part` does; then no process goes on."""
    parts = parts_of([len(episode) for episode in source.sound_episodes()], jobs)
    with processes(len(parts)) as pool, progress("converting", "episode", total=source.n_episodes, quiet=quiet) as bar:
        running = {pool.submit(write_reopened, reopen, work, videos, part) for part in parts}
        try:
            while running:
                finished, running = wait(running, timeout=1)
                for future in finished:
                    future.result()
                bar.update(len(lengths_in(work)) - bar.n)
        except BadInput as error:
            if not isinstance(error, CannotWrite):
                (work / MARK).unlink(missing_ok=True)
            raise


def write_reopened(reopen: Callable[[], Source], work: Path, videos: bool, part: Part) -> None:
    """Write a part in a process of its own."""
    write_part(with_safe_names(reopen()), work, videos, part, quiet=True)


def write_part(source: Source, work: Path, videos: bool, part: Part, quiet: bool) -> None:
    """Fill the data files of a part, one after the other, from the first episode that none of them holds, as long as the
    mark of this conversion is there."""
    files = [file for file in meta_files(work) if number_of(file) // FILES_PER_CHUNK in part.chunks]
    lengths = [row["length"] for file in files for row in read_rows(file, ["length"])]
    done, frame, file = part.first + len(lengths), part.frame + sum(lengths), part.file + len(files)
    stop = None if part.last >= source.n_episodes else part.last - done  # a reader checks the whole at its end
    left = itertools.islice(source.sound_episodes(done), stop)
    bar = progress("converting", "episode", left, part.last - part.first, len(lengths), quiet)
    episodes = enumerate(bar, done)
    for first in episodes:
        with storage_of(source, work, file, videos) as storage:
            rows = write_file(source, itertools.chain([first], episodes), work, file, frame, storage)
        write_parquet(work / "meta" / "episodes" / data_file_name(file), rows)
        frame, file = rows[-1]["dataset_to_index"], file + 1
        if not (work / MARK).exists():
            return


@contextmanager
def storage_of(source: Source, work: Path, file: int, videos: bool) -> Iterator[Storage]:
    """Where the images of a data file go: to videos, or into its cells as PNG."""
    if not videos:
        yield PngCells()
        return
    with videos_of(work, source.image_sizes, *divmod(file, FILES_PER_CHUNK), source.rate) as files:
        yield files


def write_file(
    source: Source, episodes: Iterator[tuple[int, Episode]], work: Path, file: int, frame: int, storage: Storage
) -> Rows:
    """Write episodes until the file is full; returns what is known of them. `frame`: how many frames came before."""
    rows: Rows = []

    def write(partial: Path) -> None:
        with grouped_writer(partial) as put:
            size = 0
            for number, episode in episodes:
                start = rows[-1]["dataset_to_index"] if rows else frame
                columns = episode.numbers | clocks(episode, number, start, source.rate)
                samples: dict[str, list[np.ndarray]] = {name: [] for name in episode.images}
                firsts: dict[str, list[int]] = {}
                first = storage.frames
                with source.naming(number):
                    check_cameras(episode, source.image_sizes)
                    for table in tables(episode, columns, source.image_sizes, samples, storage, firsts):
                        size += table.nbytes
                        put(table)
                rows.append(
                    row_of(episode, number, start, file, source.tasks_of(episode))
                    | storage.places(first)
                    | {f"first/{name}": means for name, means in firsts.items()}
                    | stats_of(columns, samples)
                )
                if size > FILE_BYTES or storage.full:
                    return

    write_atomically(work / "data" / data_file_name(file), write)
    return rows


def clocks(episode: Episode, number: int, start: int, fps: float) -> dict[str, np.ndarray]:
    """What LeRobot wants to know of each of its n frames, (n, 1) each."""
    frames = np.arange(len(episode))[:, None]
    tasks = episode.numbers.get(TASK_INDEX, np.zeros_like(frames)).astype(np.int64)
    return {
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full_like(frames, number),
        "index": start + frames,
        TASK_INDEX: tasks,
    }


def tables(
    episode: Episode,
    columns: dict[str, np.ndarray],
    sizes: dict[str, tuple[int, ...]],
    samples: dict[str, list[np.ndarray]],
    storage: Storage,
    firsts: dict[str, list[int]],
) -> Iterator["pa.Table"]:
    """The frames as tables: all at once without images, with them a few at a time. Leaves some images in `samples`, and
    the signatures of the first ones in `firsts`."""
    import pyarrow as pa

    n = len(episode)
    step = storage.block if episode.images else n
    images = in_step(episode, sizes)
    stored = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    for begin in range(0, n, step):
        block = list(itertools.islice(images, step))
        for row, frame in enumerate(block, begin):
            for name, image in frame.items():
                if row == 0:
                    firsts[name] = signature(image)
                if row % -(-n // SAMPLED) == 0:
                    samples[name].append(thinned(image))
        cells = storage.add(block)
        block.clear()  # before the next is read
        arrays = {name: as_column(values[begin : begin + step]) for name, values in columns.items()}
        yield pa.table(arrays | {name: pa.array(values, stored) for name, values in cells.items()})


def as_column(values: np.ndarray) -> "pa.Array":
    """Values (n, size) as a column: of numbers where size is 1, else of lists."""
    import pyarrow as pa

    if values.shape[1] == 1:
        return pa.array(values[:, 0])
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def thinned(image: np.ndarray) -> np.ndarray:
    """About 100 x 100 of its pixels, (n, 3); a copy, for a view would keep the whole image in memory."""
    step = max(1, min(image.shape[:2]) // 100)
    return image[::step, ::step].copy().reshape(-1, 3)


@contextmanager
def grouped_writer(path: Path) -> Iterator[Callable[["pa.Table"], None]]:
    """A parquet file that takes tables, and writes a row group whenever enough of them have come together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[pa.Table] = []
    size = 0
    writer: pq.ParquetWriter | None = None

    def flush() -> None:
        nonlocal writer, size
        if waiting:
            table = pa.concat_tables(waiting)
            writer = writer or pq.ParquetWriter(path, table.schema, **PARQUET)
            writer.write_table(table, row_group_size=len(table))
            waiting.clear()
            size = 0

    def put(table: pa.Table) -> None:
        nonlocal size
        waiting.append(table)
        size += table.nbytes
        if size > GROUP_BYTES:
            flush()

    try:
        yield put
        flush()
    finally:
        if writer is not None:
            writer.close()


PARQUET: dict[str, Any] = {"compression": "zstd", "compression_level": 9, "write_page_checksum": True}


def write_parquet(path: Path, rows: Rows) -> None:
    """Write rows as a parquet file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_atomically(path, lambda partial: pq.write_table(pa.Table.from_pylist(rows), partial, **PARQUET))


# --- what is known of the data ----------------------------------------------------------------------------------


def row_of(episode: Episode, number: int, start: int, file: int, tasks: list[str]) -> dict[str, Any]:
    """What meta/episodes says of an episode and where it lies. `start`: its first frame; `file`: its data file."""
    chunk, index = divmod(file, FILES_PER_CHUNK)
    return {
        "episode_index": number,
        "tasks": tasks,
        "length": len(episode),
        "data/chunk_index": chunk,
        "data/file_index": index,
        "dataset_from_index": start,
        "dataset_to_index": start + len(episode),
        "meta/episodes/chunk_index": chunk,
        "meta/episodes/file_index": index,
        "checksum": episode.checksum(),
    }


def stats_of(columns: dict[str, np.ndarray], samples: dict[str, list[np.ndarray]]) -> dict[str, list[Any]]:
    """{stats/feature/min: (size,) ...}; of images, per channel, as (3, 1, 1)."""
    stats: dict[str, list[Any]] = {}
    for name, values in columns.items():
        for kind, value in spread_of(values.astype(np.float64, copy=False)).items():
            stats[f"stats/{name}/{kind}"] = value.tolist()
        stats[f"stats/{name}/count"] = [len(values)]
    for name, images in samples.items():
        for kind, value in spread_of(np.concatenate(images)).items():  # as bytes: as float64 they are eight times that
            stats[f"stats/{name}/{kind}"] = (value / 255).reshape(3, 1, 1).tolist()
        stats[f"stats/{name}/count"] = [len(images)]
    return stats


def spread_of(values: np.ndarray) -> dict[str, np.ndarray]:
    """{min, max, mean, std and quantiles: (size,)} of values (n, size)."""
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return found | dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values()), axis=0), strict=True))


def meta_files(work: Path) -> list[Path]:
    """The files of meta/episodes, in order."""
    return sorted(work.glob("meta/episodes/*/*.parquet"))


def column_in(work: Path, name: str) -> list[Any]:
    """A column of meta/episodes, of all episodes in order; empty where there is none."""
    import pyarrow.parquet as pq

    return [
        value
        for file in meta_files(work)
        if name in pq.read_schema(file).names
        for value in pq.read_table(file, columns=[name])[name].to_pylist()
    ]


def lengths_in(work: Path) -> list[int]:
    """The number of frames of each episode that is written."""
    return column_in(work, "length")


def read_rows(file: Path, columns: list[str] | None = None) -> Rows:
    """The rows of a file of meta/episodes, of these columns; None: of all."""
    import pyarrow.parquet as pq

    return pq.read_table(file, columns=columns).to_pylist()


def together(rows: Rows) -> dict[str, Any]:
    """The statistics of all from those of each; a quantile is the mean of theirs, as in LeRobot."""
    merged: dict[str, Any] = {}
    for name in sorted({key.split("/")[1] for key in rows[0] if key.startswith("stats/")}):

        def each(kind: str, name: str = name) -> np.ndarray:
            return np.array([row[f"stats/{name}/{kind}"] for row in rows])

        count, mean = each("count"), each("mean")
        weight = (count / count.sum()).reshape(-1, *[1] * (mean.ndim - 1))
        middle = (weight * mean).sum(0)
        spread = np.sqrt((weight * (each("std") ** 2 + (mean - middle) ** 2)).sum(0))
        found = {
            "min": each("min").min(0),
            "max": each("max").max(0),
            "mean": middle,
            "std": spread,
            "count": count.sum(0),
            **{q: (weight * each(q)).sum(0) for q in QUANTILES},
        }
        merged |= {f"stats/{name}/{kind}": value.tolist() for kind, value in found.items()}
    return merged


def all_stats(work: Path) -> dict[str, dict[str, Any]]:
    """{feature: {min: ...}} of the whole dataset, from one file of meta/episodes after the other."""
    stats: dict[str, dict[str, Any]] = {}
    for key, value in together([together(read_rows(file)) for file in meta_files(work)]).items():
        _, name, kind = key.split("/")
        stats.setdefault(name, {})[kind] = value
    return stats


def finish(source: Source, work: Path, videos: bool) -> None:
    """Write what describes the dataset as a whole."""
    import pandas as pd

    lengths = lengths_in(work)
    stats, features = all_stats(work), features_of(source, work)
    if videos:
        features |= {name: video_feature(size, source.rate) for name, size in source.image_sizes.items()}
    write_json(
        work / "meta" / "info.json",
        {
            "codebase_version": "v3.0",
            "robot_type": None if source.robot == UNSTATED else source.robot,
            "total_episodes": len(lengths),
            "total_frames": sum(lengths),
            "total_tasks": len(source.all_tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": int(source.rate) if source.rate == int(source.rate) else source.rate,
            "splits": {"train": f"0:{len(lengths)}"},
            "features": features,
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": VIDEO_PATH if videos else None,
        },
    )
    write_json(work / "meta" / "stats.json", stats)
    contract = contract_of(source, features, stats)
    write_json(work / "meta" / "contract.json", contract.to_dict() | {"operator": source.operator})
    write_text(work / "README.md", data_card(source, contract, lengths, column_in(work, "stats/next.success/max")))
    tasks = pd.DataFrame({TASK_INDEX: range(len(source.all_tasks))}, index=pd.Index(source.all_tasks, name="task"))
    write_atomically(work / "meta" / "tasks.parquet", tasks.to_parquet)


def features_of(source: Source, work: Path) -> dict[str, dict[str, Any]]:
    """The features of info.json, from the columns that were written."""
    import pyarrow.parquet as pq
    import pyarrow.types as types

    features: dict[str, dict[str, Any]] = {}
    for column in pq.read_schema(work / "data" / data_file_name(0)):
        if types.is_struct(column.type):
            features[column.name] = {
                "dtype": "image",
                "shape": list(source.image_sizes[column.name]),
                "names": ["height", "width", "channel"],
            }
            continue
        wide = types.is_fixed_size_list(column.type)
        dtype = str((column.type.value_type if wide else column.type).to_pandas_dtype().__name__)
        features[column.name] = {
            "dtype": dtype,
            "shape": [column.type.list_size if wide else 1],
            "names": source.names.get(column.name) or None,
        }
    return features


def contract_of(source: Source, features: dict[str, dict[str, Any]], stats: dict[str, dict[str, Any]]) -> Contract:
    """The data contract, with the ranges that occur."""

    def field(name: str) -> Field:
        shape = features[name]["shape"]
        return Field(
            tuple(shape) if len(shape) > 1 else shape[0],
            source.units.get(name, UNSTATED),
            float(np.min(stats[name]["min"])),
            float(np.max(stats[name]["max"])),
            tuple(source.names.get(name, ())),
        )

    observation = {name: field(name) for name in features if name.startswith("observation.")}
    return Contract(observation, field("action"), source.rate)


def verify(source: Source, work: Path, loss: float) -> None:
    """Read everything again: counts, clocks, the checksum of every episode's states and actions, and the first image of
    each camera in each episode, whose blocks may differ by `loss` on average. Raises BadInput if anything is not as it
    was in the source, and removes what was written."""
    try:
        found = 0
        columns = ["episode_index", *(f"first/{name}" for name in source.image_sizes)]
        known = (row for file in meta_files(work) for row in read_rows(file, columns))
        for episode, firsts in zip(lerobot_dataset.open_source(work, Choice()).sound_episodes(), known, strict=False):
            for name, frames in episode.images.items():
                off = np.abs(np.array(signature(next(frames()))) - np.array(firsts[f"first/{name}"])).mean()
                if off > loss:
                    raise BadInput(f"{episode.place}: the first image of {name} is {off:.1f} of 255 off")
            found += 1
        if found != source.n_episodes:
            raise BadInput(f"{found} episodes were written, {source.n_episodes} were expected")
    except BadInput as error:
        shutil.rmtree(work)
        raise BadInput(
            f"{source.path}: what was written does not read back as it should ({error}); convert again"
        ) from None


def what_was_verified(source: Source, videos: bool) -> str:
    """What `verify` has compared, in words."""
    numbers = f"states and actions of all {source.n_episodes} episodes, bit by bit"
    if not source.image_sizes:
        return numbers
    how = f"to {LOSS:g} of 255 on average" if videos else "by the means of its blocks"
    return f"{numbers}; of each camera the first image of each episode, {how}"
