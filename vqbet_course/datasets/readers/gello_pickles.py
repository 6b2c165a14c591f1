"""GELLO's recordings: a folder for each demonstration, a pickle for each frame, named by its time.

A pickle can run any program, so these are read by an unpickler that makes numbers and arrays, and nothing else.
"""

import datetime
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.clock import rate_of
from vqbet_course.datasets.images import as_bytes
from vqbet_course.datasets.source import BadEpisode, Episode, Frames, Source, readable

KIND = "GELLO pickles"
LARGEST_FILE = 2**28  # bytes
ACTION = "control"
STATE = {"joint_positions": "observation.state"}
ENDINGS = (".pkl", ".pickle")


def files_of(folder: Path) -> list[Path]:
    """The frames of a demonstration, by time."""
    return sorted((p for p in folder.iterdir() if p.suffix in ENDINGS), key=lambda p: (time_of(p) or FIRST, p.name))


FIRST = datetime.datetime.min


def time_of(file: Path) -> datetime.datetime | None:
    """The time that is the name of a file; None for another name."""
    try:
        return datetime.datetime.fromisoformat(file.stem).replace(tzinfo=None)
    except ValueError:
        return None


def folders_of(path: Path) -> list[Path]:
    """The folders of the demonstrations, by name, which is their time; the path itself, where it is one."""
    if any(p.suffix in ENDINGS for p in path.iterdir()):
        return [path]
    return sorted(p for p in path.iterdir() if p.is_dir() and any(q.suffix in ENDINGS for q in p.iterdir()))


def accepts(path: Path) -> bool:
    """Whether a path is a folder of such folders, or one of them."""
    return path.is_dir() and bool(folders_of(path))


def open_source(path: Path, choice: Choice) -> Source:
    """A source of all demonstrations. Raises BadInput for what cannot be read."""
    folders = folders_of(path)
    first = read_frame(files_of(folders[0])[0])
    sizes: dict[str, tuple[int, ...]] = {}
    for folder in folders:
        sizes |= {
            camera(name): value.shape for name, value in read_frame(files_of(folder)[0]).items() if is_image(value)
        }
    left_out = {name: why for name, value in first.items() if (why := unread(value)) is not None}

    def read(start: int) -> Iterator[Episode]:
        for number in range(start, len(folders)):
            yield episode_of(folders[number], number)

    rate = choice.fps or rate_of(times_of(files_of(folders[0])))
    return Source(str(path), KIND, len(folders), read, rate, sizes, left_out=left_out)


def camera(name: str) -> str:
    """`wrist_rgb` -> `observation.images.wrist`."""
    return f"observation.images.{name.removesuffix('_rgb')}"


def feature(name: str) -> str:
    """The feature of an entry of a frame."""
    return "action" if name == ACTION else STATE.get(name, f"observation.{name}")


def is_image(value: Any) -> bool:
    """Whether an entry of a frame is an image in colour."""
    return isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] == 3


def is_number(value: Any) -> bool:
    """Whether an entry of a frame is a number or a few of them."""
    return np.asarray(value).dtype.kind in "fiub" and np.ndim(value) < 2


def unread(value: Any) -> str | None:
    """Why an entry of a frame is left out; None for one that is read."""
    if is_image(value) or is_number(value):
        return None
    return f"{' x '.join(map(str, np.shape(value))) or type(value).__name__}; such entries are not read"


def episode_of(folder: Path, number: int) -> Episode:
    """One demonstration. Raises BadInput, naming the file, for a frame that has not what the others have."""
    files, place = files_of(folder), f"{folder}, episode {number}"
    rows: dict[str, list[np.ndarray]] = {}
    cameras: set[str] = set()
    for row, file in enumerate(files):
        frame = read_frame(file)
        numbers = {name: np.atleast_1d(np.asarray(value)) for name, value in frame.items() if is_number(value)}
        if row and (numbers.keys() != rows.keys() or any(v.shape != rows[k][0].shape for k, v in numbers.items())):
            first = f"the first frame of its demonstration {', '.join(sorted(rows))}, or in other sizes"
            raise BadEpisode(str(file), f"holds {', '.join(sorted(numbers))}, {first}")
        for name, value in numbers.items():
            rows.setdefault(name, []).append(value)
        cameras |= {name for name, value in frame.items() if is_image(value)}
    images = {camera(name): frames_of(files, name) for name in sorted(cameras)}
    return Episode({feature(name): np.stack(values) for name, values in rows.items()}, place, images, times_of(files))


def frames_of(files: list[Path], name: str) -> Frames:
    """The images of a camera, one for each file."""

    def frames() -> Iterator[np.ndarray]:
        for file in files:
            frame = read_frame(file)
            if not is_image(frame.get(name)):
                raise BadEpisode(str(file), f"has no image {name}")
            yield as_bytes(frame[name], str(file))

    return frames


def times_of(files: list[Path]) -> np.ndarray | None:
    """The time (T,) of each frame in seconds from the first, by the names of the files; None for other names.

    Raises BadInput where two frames have one time."""
    times = [time for file in files if (time := time_of(file)) is not None]
    if len(times) < len(files):
        return None
    clock = np.array([(time - times[0]).total_seconds() for time in times])
    if (np.diff(clock) <= 0).any():
        raise BadInput(f"{files[int(np.argmax(np.diff(clock) <= 0)) + 1]}: not later than the frame before")
    return clock


def read_frame(file: Path) -> dict[str, Any]:
    """The entries of a frame. Raises BadInput for anything but a dictionary of numbers and arrays."""
    with readable(str(file)):
        if file.stat().st_size > LARGEST_FILE:
            raise BadInput(f"{file}: {file.stat().st_size / 1e6:.0f} MB, too large to be a frame")
        frame = NumbersOnly(io.BytesIO(file.read_bytes())).load()
    if not isinstance(frame, dict) or not all(isinstance(name, str) for name in frame):
        raise BadInput(f"{file}: not the dictionary of a frame")
    return {name: np.asarray(value) if isinstance(value, np.ndarray) else value for name, value in frame.items()}


class NumbersOnly(pickle.Unpickler):
    """An unpickler of numbers, texts, lists, dictionaries and arrays of numbers; it calls nothing from outside."""

    def find_class(self, module: str, name: str) -> Any:
        """What makes arrays and their numbers. Raises UnpicklingError for all else."""
        makers = {
            ("multiarray", "_reconstruct"): empty_array,
            ("multiarray", "scalar"): number,
            ("numeric", "_frombuffer"): array_of,
            ("numpy", "ndarray"): "numpy.ndarray",
            ("numpy", "dtype"): Dtype,
            ("_codecs", "encode"): as_latin_bytes,
        }
        known = makers.get((module.rpartition(".")[2], name)) if module.split(".")[0] in ("numpy", "_codecs") else None
        if known is None:
            raise pickle.UnpicklingError(f"a frame may not hold {module}.{name}, only numbers and arrays")
        return known


class Dtype:
    """A numpy dtype in the making; only those of plain numbers are made."""

    def __new__(cls, code: str, *_: Any) -> Any:
        """The dtype. Raises UnpicklingError for one that is not of numbers."""
        made = np.dtype(code)
        if made.kind not in "fiub":
            raise pickle.UnpicklingError(f"arrays of {made} are not read")
        return ByteOrder(made)


class ByteOrder:
    """A dtype that takes its byte order from the pickle."""

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1] if state[1] in "<>" else "=")


def empty_array(*_: Any) -> Any:
    """An array that gets its content from the pickle's state."""
    return np.ndarray.__new__(Filled, (0,), np.uint8)


class Filled(np.ndarray):
    """An array that is filled from a pickle, if its bytes are as many as its shape says."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, data = state
        if not isinstance(dtype, ByteOrder) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array without plain numbers")
        super().__setstate__((1, shape, dtype.dtype, by_column, data))


def array_of(data: Any, dtype: ByteOrder, shape: Any, order: str) -> np.ndarray:
    """An array (protocol 5) from its bytes. Raises ValueError unless they are as many as its shape says."""
    return np.frombuffer(bytes(data), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def number(dtype: ByteOrder, data: bytes) -> Any:
    """One number from its bytes."""
    return np.frombuffer(data, dtype.dtype)[0]


def as_latin_bytes(text: str, encoding: str) -> bytes:
    """The bytes that protocol 2 keeps as a text."""
    return text.encode("latin1") if isinstance(text, str) else b""
