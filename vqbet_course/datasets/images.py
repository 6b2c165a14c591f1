"""Images: from arrays of any number type, encoded or not."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import BadEpisode, Episode, Frames, believable, readable

BLOCK_BYTES = 16e6  # of images that are read at once


def slices_of(array: Any, start: int, end: int, place: str) -> Frames:
    """Rows start..end-1 of an array (N, H, W, 3) or (N, 3, H, W) on a disk: uint8, or whole numbers 0..255 of another
    type."""

    def frames() -> Iterator[np.ndarray]:
        believable(place, array.shape[1:], array.dtype.itemsize)
        step = max(1, int(BLOCK_BYTES // (np.prod(array.shape[1:]) * array.dtype.itemsize)))
        for begin in range(start, end, step):
            for row, image in enumerate(array[begin : min(begin + step, end)], begin - start):
                yield as_bytes(channels_last(image), f"{place}, row {row}")

    return frames


def channels_last(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3), also where it is kept as (3, H, W)."""
    return image.transpose(1, 2, 0) if image.shape[0] == 3 != image.shape[2] else image


def hdf5_frames(path: Path, name: str, place: str, n: int | None = None) -> Frames:
    """The images of an HDF5 file, the first n of them: an array (N, H, W, 3), or JPEGs (N, bytes) padded to one
    length."""

    def frames() -> Iterator[np.ndarray]:
        import h5py

        with h5py.File(path) as file:
            if file[name].ndim == 4:
                yield from slices_of(file[name], 0, n or len(file[name]), place)()
            else:
                for row in range(n or len(file[name])):
                    with readable(f"{place}, row {row}"):
                        yield decoded(np.asarray(file[name][row]).tobytes())

    return frames


def as_bytes(image: np.ndarray, place: str) -> np.ndarray:
    """An image as uint8, exactly. Raises BadInput for numbers that are not whole or not in 0..255."""
    if image.dtype == np.uint8:
        return image
    exact = image.astype(np.uint8)
    if not np.array_equal(exact, image):
        raise BadInput(f"{place}: pixels must be whole numbers in 0..255, found {image.min():g}..{image.max():g}")
    return exact


def decoded(data: bytes) -> np.ndarray:
    """A PNG or JPEG as (H, W, 3) uint8. Raises BadInput for one of more than 8 bits a channel, such as depth."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith(("I", "F")):
            raise BadInput("an image of more than 8 bits a channel, like depth; only colour is read")
        return np.asarray(image.convert("RGB"))


def is_colour(file: Path) -> bool:
    """Whether an image file has at most 8 bits a channel. Raises BadInput for one that cannot be read."""
    from PIL import Image

    with readable(str(file)), Image.open(file) as image:
        return not image.mode.startswith(("I", "F"))


def decode_video(file: Path, begin: float = 0.0) -> Iterator[tuple[float, np.ndarray]]:
    """The images of a video, each with its time in seconds, from the last key frame before `begin` on."""
    import av

    with readable(str(file)), av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        container.seek(int(begin / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            yield float(frame.time or 0.0), frame.to_ndarray(format="rgb24")


def in_step(episode: Episode, sizes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, np.ndarray]]:
    """The images {camera: (H, W, 3)} of each frame. Raises BadEpisode unless all have one size and there is one for
    each row."""
    cameras = {name: frames() for name, frames in episode.images.items()}
    for row in range(len(episode)):
        images = {name: next(frames, None) for name, frames in cameras.items()}
        for name, image in images.items():
            if image is None:
                raise BadEpisode(episode.place, f"{name} has only {row} images for {len(episode)} rows")
            if image.shape != sizes[name]:
                what = f"{name} has size {image.shape}, elsewhere {sizes[name]}"
                raise BadEpisode(episode.place, what, "or give all images one size with --resize HxW", row)
        yield {name: image for name, image in images.items() if image is not None}
        if row == len(episode) - 1 and any(next(frames, None) is not None for frames in cameras.values()):
            raise BadEpisode(episode.place, f"more images than its {len(episode)} rows")
