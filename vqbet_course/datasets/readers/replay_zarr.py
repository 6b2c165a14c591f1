"""A replay buffer in zarr, as a folder or as one `.zarr.zip`: `data/*` (N, ...) and `meta/episode_ends` (E,)."""
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.readers.replay import replay_source
from vqbet_course.datasets.source import Source

KIND = "replay zarr"


def accepts(path: Path) -> bool:
    return path.name.endswith(".zarr.zip") or (path / ".zgroup").exists() or (path / "zarr.json").exists()


def open_source(path: Path, fps: float | None) -> Source:
    import zarr

    store: Any = zarr.storage.ZipStore(path, mode="r") if path.suffix == ".zip" else path
    group = zarr.open_group(store, mode="r")
    for part in ("data", "meta/episode_ends"):
        if part not in group:
            raise BadInput(f"{path}: no {part}; a replay buffer has data/* and meta/episode_ends")
    arrays: dict[str, Any] = dict(group["data"].arrays())  # type: ignore[union-attr]
    for name, array in arrays.items():
        if array.nchunks_initialized < array.nchunks:  # zarr would read zeros in their place
            raise BadInput(f"{path}: data/{name} has {array.nchunks_initialized} of {array.nchunks} chunks; "
                           "copy it again, or, if all is zero in the others, write it with write_empty_chunks")
    return replay_source(str(path), KIND, arrays, np.asarray(group["meta/episode_ends"]).astype(np.int64), fps)
