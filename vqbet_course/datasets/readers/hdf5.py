"""HDF5 files, opened with care: nothing outside the file is read, and no declared shape is believed."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import believable

WIDEST = 4096
"""Numbers a frame beyond which an array is an image or a map, and not state."""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, for reading. Raises BadInput where a part of it lies in another file."""
    import h5py

    check_links(path, path.stat().st_mtime_ns)
    with h5py.File(path, "r") as file:
        yield file


@functools.lru_cache(maxsize=4096)
def check_links(path: Path, changed: int) -> None:
    """Raise BadInput for a file with links to others, or with data that lie in others. `changed`: when it was."""
    import h5py

    def check(group: Any) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise BadInput(
                    f"{path}: {group.name}/{name} is a link to another file ({link.filename}), which is not "
                    "followed; copy the data into this file"
                )
            if isinstance(link, h5py.SoftLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                check(item)
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise BadInput(
                    f"{path}: {item.name} keeps its data in another file, which is not read; copy the data "
                    "into this file"
                )

    with h5py.File(path, "r") as file:
        check(file)


def is_hdf5(path: Path) -> bool:
    """Whether a path is named like an HDF5 file."""
    return path.suffix in (".hdf5", ".h5") and path.is_file()


def leaves(group: Any, prefix: str = "") -> dict[str, Any]:
    """{path below the group, with dots: dataset} of all arrays in a group and the groups below it."""
    found: dict[str, Any] = {}
    for name in sorted(group):
        item, path = group[name], f"{prefix}{name}"
        found |= leaves(item, f"{path}.") if hasattr(item, "keys") else {path: item}
    return found


def is_camera(array: Any) -> bool:
    """Whether an array is (N, H, W, 3), images in colour."""
    return array.ndim == 4 and array.shape[-1] == 3


def is_numbers(array: Any) -> bool:
    """Whether an array (N, ...) can be state: numbers, and not a map of them."""
    size = int(np.prod(array.shape[1:], dtype=np.float64)) if array.ndim else 0
    return array.ndim >= 1 and array.dtype.kind in "fiub" and size <= WIDEST


def flat_rows(array: Any, place: str) -> np.ndarray:
    """An array (N, ...) of a file as (N, size). Raises BadInput before more is read than an episode can have."""
    believable(f"{place}: {array.name}", array.shape, array.dtype.itemsize)
    values = array[:]
    return values.reshape(len(values), -1)
