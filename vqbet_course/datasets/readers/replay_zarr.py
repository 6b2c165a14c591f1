"""A replay buffer in zarr, as a folder or as one `.zarr.zip`: `data/*` (N, ...) and `meta/episode_ends` (E,).

UMI's images are kept as JPEG XL, which the package imagecodecs decodes.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.readers.replay import replay_source
from vqbet_course.datasets.source import Source, believable

KIND = "replay zarr"
MARKS = (".zgroup", "zarr.json")


def accepts(path: Path) -> bool:
    """Whether a path is such a folder or zip."""
    return path.name.endswith(".zarr.zip") or any((path / mark).exists() for mark in MARKS)


def open_source(path: Path, choice: Choice) -> Source:
    """A source of its episodes. Raises BadInput for what cannot be read."""
    import zarr

    store: Any = zarr.storage.ZipStore(path, mode="r") if path.suffix == ".zip" else path
    use_codecs(path)
    group = zarr.open_group(store, mode="r", path=inner_folder(path) if path.suffix == ".zip" else None)
    for part in ("data", "meta/episode_ends"):
        if part not in group:
            raise BadInput(f"{path}: no {part}; a replay buffer has data/* and meta/episode_ends")
    arrays: dict[str, Any] = dict(group["data"].arrays())  # type: ignore[union-attr]
    for name, array in arrays.items():
        believable(f"{path}: a chunk of data/{name}", array.chunks, array.dtype.itemsize)
        if array.nchunks > MOST_CHUNKS:
            raise BadInput(f"{path}: data/{name} declares {array.nchunks} chunks; its metadata is damaged")
        if array.nchunks_initialized < array.nchunks:  # zarr would read zeros in their place
            raise BadInput(
                f"{path}: data/{name} has {array.nchunks_initialized} of {array.nchunks} chunks; "
                "copy it again, or, if all is zero in the others, write it with write_empty_chunks"
            )
    ends: Any = group["meta/episode_ends"]
    believable(f"{path}: meta/episode_ends", ends.shape, ends.dtype.itemsize)
    return replay_source(str(path), KIND, arrays, np.asarray(ends[:]).astype(np.int64), choice)


MOST_CHUNKS = 10**7


def inner_folder(path: Path) -> str | None:
    """The folder of a zip in which the buffer lies; None where it lies at the top."""
    with zipfile.ZipFile(path) as archive:
        places = [name.rpartition("/")[0] for name in archive.namelist() if name.rpartition("/")[2] in MARKS]
    return min(places, key=lambda place: (place.count("/"), len(place)), default="") or None


def use_codecs(path: Path) -> None:
    """Make the codecs of images known that this buffer uses. Raises BadInput where the package for them is missing."""
    if not any("imagecodecs" in text for text in array_metadata(path)):
        return
    try:
        from imagecodecs.numcodecs import register_codecs
    except ImportError:
        raise BadInput(
            f"{path}: its images are kept as JPEG XL, which needs the package imagecodecs; install it with: "
            "pip install 'vqbet_course[umi]'"
        ) from None
    register_codecs(verbose=False)


def array_metadata(path: Path) -> list[str]:
    """What is written about each array below data/."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return [
                archive.read(name).decode(errors="replace")
                for name in archive.namelist()
                if name.endswith((".zarray", "zarr.json")) and archive.getinfo(name).file_size < 1e6
            ]
    return [
        file.read_text(errors="replace")
        for mark in (".zarray", "zarr.json")
        for file in (path / "data").glob(f"*/{mark}")
        if file.stat().st_size < 1e6
    ]
