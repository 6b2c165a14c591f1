"""How a written dataset keeps images: as PNG in its parquet files, without loss, or as MP4 with LeRobot's settings."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import in_plain_words

VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

CODEC, PIXELS = "libsvtav1", "yuv420p"
OPTIONS = {"g": "2", "crf": "30", "preset": "12"}
"""LeRobot 0.6's settings: every second frame can be decoded by itself, so that random access is quick."""

FRAMES_PER_VIDEO = 3000
"""Frames after which a video ends with the episode that it is in."""

BLOCK = 4
"""Frames that are stored at once."""

SIGNATURE = 8
"""Blocks along each side of an image whose means are its signature."""

LOSS = 6.0
"""How far the means of blocks may be, on average and of 255, from those of the source after a video was encoded."""

Frame = dict[str, np.ndarray]
"""The images {camera: (H, W, 3)} of one frame."""


class Storage(Protocol):
    """Where images go while a data file is written."""

    block: int
    """Frames that it takes at once: so many raw images are in memory."""

    frames: int
    """Frames that it has taken."""

    @property
    def full(self) -> bool:
        """Whether the data file that it belongs to has to end."""

    def add(self, block: list[Frame]) -> dict[str, list[dict[str, Any]]]:
        """Keep the images of some frames; returns {camera: cells} for a table, empty where they are kept elsewhere."""

    def places(self, first: int) -> dict[str, Any]:
        """What meta/episodes says of where the images of an episode lie that began with frame `first`."""


class PngCells:
    """Keeps images as PNG in cells of a table; the bytes of the table alone fill a file."""

    full, block = False, BLOCK

    def __init__(self) -> None:
        self.frames = 0

    def places(self, first: int) -> dict[str, Any]:
        """Nothing: images lie beside the numbers."""
        return {}

    def add(self, block: list[Frame]) -> dict[str, list[dict[str, Any]]]:
        """The cells of some frames."""
        self.frames += len(block)
        return {
            name: [{"bytes": as_png(frame[name]), "path": None} for frame in block]
            for name in (block[0] if block else {})
        }


class VideoFiles:
    """Keeps the images of each camera in a video of FRAMES_PER_VIDEO frames and the rest of an episode. `streams`
    {camera: container and stream}; chunk, index: the numbers of the videos; fps: their rate."""

    block = BLOCK

    def __init__(self, streams: Mapping[str, Any], chunk: int, index: int, fps: float):
        self.streams, self.frames = streams, 0
        self.chunk, self.index, self.fps = chunk, index, fps

    @property
    def full(self) -> bool:
        """Whether the videos are as long as they become."""
        return self.frames > FRAMES_PER_VIDEO

    def places(self, first: int) -> dict[str, Any]:
        """Which part of the videos an episode is: its frames first, first + 1, ... of them."""
        span = {"from_timestamp": first / self.fps, "to_timestamp": self.frames / self.fps}
        place = {"chunk_index": self.chunk, "file_index": self.index} | span
        return {f"videos/{name}/{key}": value for name in self.streams for key, value in place.items()}

    def add(self, block: list[Frame]) -> dict[str, list[dict[str, Any]]]:
        """Encode some frames; there are no cells."""
        import av

        for frame in block:
            for name, image in frame.items():
                container, stream = self.streams[name]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        self.frames += len(block)
        return {}


def as_png(image: np.ndarray) -> bytes:
    """An image (H, W, 3) uint8 as PNG, without loss."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def video_file(work: Path, camera: str, chunk: int, index: int) -> Path:
    """The video of a camera that belongs to a data file."""
    return work / VIDEO_PATH.format(video_key=camera, chunk_index=chunk, file_index=index)


def check_encodable(place: str, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise BadInput for images that the codec does not take: their height and width have to be even."""
    for name, (height, width, _) in sizes.items():
        if height % 2 or width % 2 or min(height, width) < 64:
            raise BadInput(
                f"{place}: {name} is {height} x {width}; a video needs even numbers of at least 64: give "
                "--resize HxW, or leave --videos out"
            )


@contextmanager
def videos(
    work: Path, sizes: Mapping[str, tuple[int, ...]], chunk: int, index: int, fps: float
) -> Iterator[VideoFiles]:
    """Videos, one for each camera, that are there whole once this ends well, or not at all."""
    import av

    files = {name: video_file(work, name, chunk, index) for name in sizes}
    partial = {name: file.with_name(f".{file.name}.{os.getpid()}.partial") for name, file in files.items()}
    try:
        with ExitStack() as stack:
            streams = {}
            for name, (height, width, _) in sizes.items():
                with in_plain_words(files[name]):
                    files[name].parent.mkdir(parents=True, exist_ok=True)
                    container = stack.enter_context(av.open(str(partial[name]), "w", format="mp4"))
                streams[name] = container, video_stream(container, height, width, fps)
            yield VideoFiles(streams, chunk, index, fps)
            for name, (container, stream) in streams.items():
                with in_plain_words(files[name]):
                    container.mux(stream.encode())
        for name, file in files.items():
            os.replace(partial[name], file)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def video_stream(container: Any, height: int, width: int, fps: float) -> Any:
    """A stream of images of this size in a video."""
    from fractions import Fraction

    stream = container.add_stream(CODEC, rate=Fraction(fps).limit_denominator(1001), options=dict(OPTIONS))
    stream.height, stream.width, stream.pix_fmt = height, width, PIXELS
    return stream


def video_feature(size: tuple[int, ...], fps: float) -> dict[str, Any]:
    """What info.json says of a camera that is kept as video."""
    info = {
        "video.height": size[0],
        "video.width": size[1],
        "video.channels": 3,
        "video.codec": "av1",
        "video.pix_fmt": PIXELS,
        "video.fps": fps,
        "video.is_depth_map": False,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": list(size), "names": ["height", "width", "channels"], "info": info}


def signature(image: np.ndarray) -> list[int]:
    """The means of SIGNATURE x SIGNATURE blocks of an image in each channel, by which it is recognised."""
    from PIL import Image

    small = Image.fromarray(image).resize((SIGNATURE, SIGNATURE), Image.Resampling.BOX)
    return np.asarray(small).ravel().tolist()
