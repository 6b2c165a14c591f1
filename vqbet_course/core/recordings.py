"""Small recordings of rollouts and trainings that the lessons show: files of numbers in `vqbet_course/data/recorded`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_atomically
from vqbet_course.core.places import PACKAGE

RECORDED = PACKAGE / "data" / "recorded"


def write_recording(path: Path, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name, and what they are about, into one compressed file; numbers of 16 bits are precise enough
    to be drawn, 0.25 px on a board of 512."""
    small: dict[str, Any] = {k: v.astype(np.float16) if v.dtype.kind == "f" else v for k, v in arrays.items()}

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(dict(about))), **small)

    write_atomically(path, write)


def read_recording(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a recording of the package is about, and its arrays by name; fractions are float32 again. Raises BadInput
    where there is none of this name."""
    path = RECORDED / f"{name}.npz"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in RECORDED.glob("*.npz")))
        raise BadInput(f"no recording {name!r}: choose from {known}")
    with np.load(path) as file:
        arrays = {k: file[k].astype(np.float32) if file[k].dtype.kind == "f" else file[k] for k in file.files}
    return json.loads(str(arrays.pop("about"))), arrays
