"""An .npz of a replay buffer: `action` (N, A), `episode_ends` (E,), and others, `state` (N, size) among them."""

import math
import threading
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.readers.replay import replay_source
from vqbet_course.datasets.source import Source, believable

KIND = "replay npz"
SKIPPED_AT_ONCE = 1 << 20  # bytes


def accepts(path: Path) -> bool:
    """Whether a path is such a file."""
    return path.suffix == ".npz" and path.is_file()


def open_source(path: Path, choice: Choice) -> Source:
    """A source of its episodes. Raises BadInput for what cannot be read."""
    with zipfile.ZipFile(path) as archive:
        arrays = {name.removesuffix(".npy"): StoredArray(path, name) for name in archive.namelist()}
    if "episode_ends" not in arrays:
        raise BadInput(f"{path}: no array `episode_ends`; expected state, action and episode_ends")
    with np.load(path) as loaded:  # `StoredArray` has seen that it is as large as it says
        ends = np.atleast_1d(loaded["episode_ends"]).astype(np.int64)
    del arrays["episode_ends"]
    return replay_source(str(path), KIND, arrays, ends, choice)


class StoredArray:
    """An array (N, ...) in an .npz whose rows are read in order, when they are asked for: numpy would read them all.
    Each thread reads at a place of its own."""

    def __init__(self, path: Path, name: str):
        self.path, self.name, self.place = path, name, threading.local()
        self.shape, by_column, self.dtype = self.rewind()
        self.ndim = len(self.shape)
        self.check_size()
        self.whole = np.load(path)[name.removesuffix(".npy")] if by_column and self.ndim > 1 else None

    def check_size(self) -> None:
        """Raise BadInput unless the file is as large as the shape that it declares: memory is asked for by the shape."""
        with zipfile.ZipFile(self.path) as archive:
            stored = archive.getinfo(self.name).file_size
        if not self.dtype.hasobject and math.prod(self.shape) * self.dtype.itemsize > stored:
            raise BadInput(
                f"{self.path}: {self.name.removesuffix('.npy')} declares shape {self.shape}, but holds "
                f"{stored} bytes: not readable, it is cut off or damaged, copy it again"
            )
        if self.ndim > 1:
            believable(f"{self.path}: {self.name}", self.shape[1:], self.dtype.itemsize)

    def rewind(self) -> tuple[tuple[int, ...], bool, np.dtype]:
        """Go to row 0; returns what numpy wrote in front of it: shape, whether column by column, and type."""
        file: IO[bytes] = zipfile.ZipFile(self.path).open(self.name)  # noqa: SIM115 (read row by row)
        self.place.file, self.place.row = file, 0
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)

    def __getitem__(self, rows: slice) -> np.ndarray:
        if self.whole is not None:
            return self.whole[rows]
        if rows.start < getattr(self.place, "row", np.inf):
            self.rewind()
        place = self.place
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        skip = (rows.start - place.row) * size
        while skip > 0:
            skip -= len(place.file.read(min(skip, SKIPPED_AT_ONCE))) or skip
        data, place.row = place.file.read((rows.stop - rows.start) * size), rows.stop
        return np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])
