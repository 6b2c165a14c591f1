"""Images: from arrays of any number type, encoded or not."""
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Episode, Frames, Source, readable

BLOCK_BYTES = 16e6  # of pictures that are read at once


def slices_of(array: Any, start: int, end: int, place: str) -> Frames:
    """Rows start..end-1 of an array (N, H, W, 3) on a disk: uint8, or whole numbers 0..255 of another type."""
    def frames() -> Iterator[np.ndarray]:
        step = max(1, int(BLOCK_BYTES // (np.prod(array.shape[1:]) * array.dtype.itemsize)))
        for begin in range(start, end, step):
            for row, picture in enumerate(array[begin:min(begin + step, end)], begin - start):
                yield as_bytes(picture, f"{place}, row {row}")
    return frames


def hdf5_frames(path: Path, name: str, place: str) -> Frames:
    """The pictures of an HDF5 file: an array (N, H, W, 3), or JPEGs (N, bytes) padded with zeros to one length."""
    def frames() -> Iterator[np.ndarray]:
        import h5py

        with h5py.File(path) as file:
            if file[name].ndim == 4:
                yield from slices_of(file[name], 0, len(file[name]), place)()
            else:
                yield from (decoded(np.asarray(row).tobytes()) for row in file[name])
    return frames


def as_bytes(picture: np.ndarray, place: str) -> np.ndarray:
    """A picture as uint8, exactly. Raises BadInput for numbers that are not whole or not in 0..255."""
    if picture.dtype == np.uint8:
        return picture
    exact = picture.astype(np.uint8)
    if not np.array_equal(exact, picture):
        raise BadInput(f"{place}: pixels must be whole numbers in 0..255, found {picture.min():g}..{picture.max():g}")
    return exact


def decoded(data: bytes) -> np.ndarray:
    """A PNG or JPEG as (H, W, 3) uint8."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def film_frames(file: Path, begin: float = 0.0) -> Iterator[tuple[float, np.ndarray]]:
    """The pictures of a film, each with its time in seconds, from the last key frame before `begin` on."""
    import av

    with readable(str(file)), av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        container.seek(int(begin / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            yield float(frame.time or 0.0), frame.to_ndarray(format="rgb24")


def chosen(source: Source, episodes: Sequence[Episode], numbers: dict[str, np.ndarray],
           observe: Sequence[str]) -> dict[str, np.ndarray]:
    """The observations that are asked for, of all N frames: `numbers` {name: (N, size)}, and pictures
    (N, 3, height, width) uint8. Raises BadInput, naming it, for one that the source has not."""
    for name in observe:
        if name not in numbers and name not in source.image_sizes:
            known = ", ".join([*numbers, *source.image_sizes])
            hint = "" if source.image_sizes else ("; a task that can draw its states does: vqbet-course demos convert "
                                                  "SOURCE --render --out DIR")
            raise BadInput(f"{source.path}: has no {name!r}, but {known}{hint}")
    return {name: numbers[name] if name in numbers else in_memory(episodes, name, source.image_sizes[name])
            for name in observe}


def in_memory(episodes: Sequence[Episode], name: str, size: tuple[int, ...]) -> np.ndarray:
    """All pictures of a camera end to end, (N, 3, height, width) uint8."""
    height, width, channels = size
    pictures = np.empty((sum(map(len, episodes)), channels, height, width), np.uint8)
    frames = (frame for episode in episodes for frame in episode.images[name]())
    for picture, frame in zip(pictures, frames, strict=True):
        picture[:] = frame.transpose(2, 0, 1)
    return pictures
