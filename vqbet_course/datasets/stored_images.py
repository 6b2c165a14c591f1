"""Images of a source on the disk: decoded and resized once into one file for each camera, then read row by row.

A file has a place for every frame of every episode, and only the places of the episodes that are asked for are filled,
episode by episode, by several threads: decoding, resizing and writing run outside of Python's lock. Beside it lies a list
of the episodes that are whole. So a killed process goes on where it was, and the parts of a split share one file.
"""

import atexit
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vqbet_course.core.errors import BadInput, CannotWrite
from vqbet_course.core.io import append_text, in_plain_words, try_lock, write_text
from vqbet_course.core.progress import progress
from vqbet_course.datasets.images import in_step
from vqbet_course.datasets.source import Episode, Source, check_cameras, last_change

if TYPE_CHECKING:
    from torch import Tensor

MOST_JOBS = 8
"""Threads that decode at most, where nothing else is asked for."""

Unit = tuple[str, int]
"""A camera and the number of an episode."""


@dataclass(frozen=True)
class ImageCache:
    """Where decoded images are kept, and by how many threads they are decoded; `quiet` prints nothing."""

    folder: Path
    jobs: int = min(MOST_JOBS, os.cpu_count() or 1)
    quiet: bool = False


@functools.cache
def temporary_cache() -> ImageCache:
    """A cache that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="vqbet-images-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return ImageCache(folder, quiet=True)


class ImageFiles:
    """The files of some cameras {name: (height, width, 3)} of a source, for the images of these episodes end to end."""

    def __init__(
        self, source: Source, episodes: Sequence[Episode], sizes: dict[str, tuple[int, ...]], cache: ImageCache
    ):
        self.source, self.episodes, self.sizes, self.cache = source, episodes, sizes, cache
        self.ends = np.cumsum([len(episode) for episode in episodes])
        self.content = json.dumps(
            [source.kind, source.choice, last_change(Path(source.path)), *(e.checksum() for e in episodes)]
        )
        self.known: set[Unit] = set()

    def file(self, camera: str) -> Path:
        """The file of a camera, named after the content of the source and the size of its images."""
        digest = hashlib.sha256(f"{self.content}{camera}{self.sizes[camera]}".encode()).hexdigest()
        return self.cache.folder / f"{re.sub(r'[^\w.-]', '_', camera)}-{digest[:16]}.bytes"

    def shape(self, camera: str) -> tuple[int, int, int, int]:
        """(N, 3, height, width)."""
        height, width, channels = self.sizes[camera]
        return int(self.ends[-1]), channels, height, width

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The files as arrays {camera: (N, 3, height, width) uint8} that take no memory; once they are filled."""
        return {
            name: np.asarray(np.memmap(self.file(name), np.uint8, "c", shape=self.shape(name))) for name in self.sizes
        }

    def fill(self, rows: np.ndarray) -> None:
        """Decode the episodes of these rows, as far as that is not done. Raises BadInput, naming the episode, for images
        that cannot be used, and where they do not fit on the disk."""
        episodes = np.unique(np.searchsorted(self.ends, rows, side="right")).tolist()
        wanted = {(name, number) for name in self.sizes for number in episodes}
        if wanted <= self.known:
            return
        with alone_in(self.cache.folder):
            done = self.done()
            missing = sorted(wanted - done, key=lambda unit: unit[1])
            self.check_space(missing)
            if not self.cache.quiet:
                print(self.budget(wanted, missing), file=sys.stderr)
            if missing:
                self.decode(missing, done)
        self.known = wanted | self.known

    def frames(self, units: Collection[Unit]) -> int:
        """How many images these are."""
        return sum(len(self.episodes[number]) for _, number in units)

    def size(self, units: Collection[Unit]) -> int:
        """How many bytes these images take."""
        return sum(len(self.episodes[number]) * int(np.prod(self.sizes[name])) for name, number in units)

    def budget(self, wanted: set[Unit], missing: Sequence[Unit]) -> str:
        """What the images take, in words."""
        sizes = " and ".join(sorted({f"{height} x {width}" for height, width, _ in self.sizes.values()}))
        return (
            f"images: {self.frames(wanted) // len(self.sizes):,} frames of {len(self.sizes)} "
            f"camera{'s' if len(self.sizes) > 1 else ''}, {sizes}: {self.size(wanted) / 1e9:.2f} GB on the disk, none in "
            f"memory; {self.size(missing) / 1e9:.2f} GB to decode into {self.cache.folder} "
            f"({free_bytes(self.cache.folder) / 1e9:.1f} GB free)"
        )

    def check_space(self, missing: Sequence[Unit]) -> None:
        """Raise CannotWrite where there is not enough space for these images."""
        free = free_bytes(self.cache.folder)
        if self.size(missing) > free:
            self.remove_if_empty()
            raise CannotWrite(
                f"{self.source.path}: its {self.frames(missing):,} images take {self.size(missing) / 1e9:.1f} GB, "
                f"{self.cache.folder} has {free / 1e9:.1f} GB left; free some there, or train with --resize HxW or with a "
                "--cache DIR on another disk"
            )

    def done(self) -> set[Unit]:
        """What the files hold; nothing of one that is not as long as it has to be."""
        found = set()
        for name in self.sizes:
            file = self.file(name)
            if file.exists() and file.stat().st_size == int(np.prod(self.shape(name))) and listed(file).exists():
                lines = listed(file).read_text(encoding="utf-8").splitlines(keepends=True)
                found |= {(name, int(line)) for line in lines if line.endswith("\n")}
        return found

    def decode(self, units: Sequence[Unit], done: set[Unit]) -> None:
        """Decode these images into their places, beside what is done."""
        for name in self.sizes:  # what a file of another size or an unfinished line said is no longer said
            write_text(listed(self.file(name)), "".join(f"{number}\n" for held, number in sorted(done) if held == name))
            with in_plain_words(self.file(name)), open(self.file(name), "ab") as file:
                file.truncate(int(np.prod(self.shape(name))))
        pool = ThreadPoolExecutor(max(1, self.cache.jobs))
        bar = progress("decoding images", "image", total=self.frames(units), quiet=self.cache.quiet)
        try:
            waiting = {pool.submit(self.decode_unit, *unit): unit for unit in units}
            for finished in as_completed(waiting):
                finished.result()
                name, number = waiting[finished]
                append_text(listed(self.file(name)), f"{number}\n")
                bar.update(len(self.episodes[number]))
        except BadInput as error:
            pool.shutdown(cancel_futures=True)
            if not isinstance(error, CannotWrite):  # going on would meet it again
                self.remove()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            bar.close()

    def decode_unit(self, name: str, number: int) -> None:
        """Decode the images of a camera in an episode into their places, down to the disk."""
        episode = self.episodes[number]
        only = replace(episode, images={name: episode.images[name]})
        with in_plain_words(self.file(name)), open(self.file(name), "r+b") as file:
            file.seek(int(self.ends[number] - len(episode)) * int(np.prod(self.sizes[name])))
            with self.source.naming(number):
                for frame in in_step(only, self.sizes):
                    file.write(frame[name].transpose(2, 0, 1).tobytes())
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Remove the files, and the folder if nothing else is in it."""
        for name in self.sizes:
            for file in (self.file(name), listed(self.file(name))):
                file.unlink(missing_ok=True)
        self.remove_if_empty()

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing is in it but the lock."""
        if [file.name for file in self.cache.folder.iterdir()] == [LOCK]:
            with suppress(OSError):
                (self.cache.folder / LOCK).unlink()
                self.cache.folder.rmdir()


@dataclass(frozen=True)
class StoredImages:
    """Images of a camera on the disk, (N, 3, height, width) uint8, or of any other shape in place of N: these `rows` of
    its file. Indexing chooses rows, like that of an array, and reads nothing; `read` does."""

    files: ImageFiles
    camera: str
    rows: np.ndarray

    dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 3, height, width)."""
        return (*self.rows.shape, *self.files.shape(self.camera)[1:])

    @property
    def ndim(self) -> int:
        """The number of axes of `shape`."""
        return len(self.shape)

    def __getitem__(self, rows: Any) -> "StoredImages":
        return replace(self, rows=self.rows[np.asarray(rows) if not isinstance(rows, slice) else rows])

    def fill(self) -> None:
        """Decode all that are not decoded yet, of the other cameras in these episodes, too."""
        self.files.fill(self.rows)

    def read(self) -> np.ndarray:
        """The images, in memory."""
        self.fill()
        return self.files.arrays[self.camera][self.rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.read(), dtype)


def stored_in(columns: Mapping[str, object]) -> dict[str, StoredImages]:
    """Those of some columns that are images on the disk."""
    return {name: values for name, values in columns.items() if isinstance(values, StoredImages)}


LOCK = ".lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time fill the files of a folder: others wait."""
    while True:
        with in_plain_words(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOCK, "a") as file:
            if try_lock(file):
                yield
                return
        time.sleep(0.5)


def listed(file: Path) -> Path:
    """Where the episodes are listed that a file holds."""
    return file.with_suffix(".episodes")


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, which need not exist."""
    return shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free


def observed(
    source: Source,
    episodes: Sequence[Episode],
    numbers: dict[str, np.ndarray],
    observe: Sequence[str],
    cache: ImageCache | None,
) -> dict[str, np.ndarray]:
    """The observations that are asked for, of all N frames: of `numbers` {name: (N, size)}, and cameras, which
    answer like arrays (N, 3, height, width) but read nothing before they are asked to.

    Raises BadInput, naming it, for one that the source has not; naming the episode, for one without a camera."""
    for name in observe:
        if name not in numbers and name not in source.image_sizes:
            known = ", ".join([*numbers, *source.image_sizes])
            draw = "; a task that can draw its states does: vqbet-course demos convert SOURCE --render --out DIR"
            raise BadInput(f"{source.path}: has no {name!r}, but {known}{'' if source.image_sizes else draw}")
    sizes = {name: source.image_sizes[name] for name in observe if name not in numbers}
    for number, episode in enumerate(episodes):
        with source.naming(number):
            check_cameras(replace(episode, images={k: v for k, v in episode.images.items() if k in sizes}), sizes)
    for name, size in sizes.items():  # before a place is made for images of the size that is declared
        first = next(episodes[0].images[name](), np.empty(0))
        if first.shape != size:
            raise BadInput(f"{episodes[0].place}, row 0: {name} has size {first.shape}, elsewhere {size}")
    files = ImageFiles(source, episodes, sizes, cache or temporary_cache()) if sizes else None
    every = np.arange(sum(map(len, episodes)))
    return {
        name: numbers[name] if files is None or name in numbers else cast(np.ndarray, StoredImages(files, name, every))
        for name in observe
    }


def as_tensor(values: "np.ndarray | StoredImages") -> "Tensor":
    """Numbers as a tensor that shares their memory; images, which stay on the disk, as they are."""
    import torch

    if isinstance(values, StoredImages):
        return cast(torch.Tensor, values)
    return torch.from_numpy(values)


def as_seen(values: "Tensor | StoredImages") -> "Tensor":
    """Images, which lie on the disk as bytes, as a tensor of numbers 0..1; a tensor as it is."""
    if isinstance(values, StoredImages):
        import torch

        return torch.from_numpy(values.read()) / 255
    return values
