"""ROS 2 bags: each folder with a metadata.yaml is an episode; topics become features by `--topics`, at `--fps`.

Rules of resampling: frames lie 1 / fps apart, from the time at which all topics have begun to that at which the first
of them ends; a frame has of each topic the last message that is not newer. The time of a message is that of its
header, where it has one, else that of its recording. Numbers of joints are matched by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.images import decoded
from vqbet_course.datasets.source import BadEpisode, Episode, Frames, Source, readable

KIND = "ROS 2 bag"
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

Message = tuple[int, Any]
"""Time in nanoseconds, which seconds since 1970 as a float cannot hold, and what is deserialized."""

SECOND = 10**9
TOLERANCE = 1000
"""Nanoseconds that a message may come after a frame and yet be in it: rates like 30 have no whole intervals."""


@dataclass(frozen=True)
class Topics:
    """What every bag is read as: topics {feature: topic}, names {feature: those of its numbers}, by the first bag, the
    features that are cameras, and the rate of the frames."""

    topics: dict[str, str]
    names: dict[str, list[str]]
    cameras: list[str]
    fps: float


def folders_of(path: Path) -> list[Path]:
    """The bags at a path, by name."""
    if (path / "metadata.yaml").exists():
        return [path]
    return sorted(file.parent for file in path.glob("*/metadata.yaml"))


def accepts(path: Path) -> bool:
    """Whether a path is a bag or a folder of bags."""
    return path.is_dir() and any(
        "rosbag2" in file.read_text(errors="replace")[:200]
        for file in (folder / "metadata.yaml" for folder in folders_of(path)[:1])
    )


def open_source(path: Path, choice: Choice) -> Source:
    """A source of all bags. Raises BadInput without rosbags, and without topics or a rate."""
    reader = reader_class(path)
    folders, topics = folders_of(path), dict(choice.topics)
    with readable(str(path)), reader([folders[0]]) as bag:
        types = {connection.topic: connection.msgtype for connection in bag.connections}
    check_topics(path, topics, types, choice.fps)
    cameras = [name for name, topic in topics.items() if types[topic] in IMAGES]

    def read(start: int) -> Iterator[Episode]:
        for number in range(start, len(folders)):
            with reader([folders[number]]) as bag:
                yield episode_of(bag, reader, folders[number], number, layout)

    with reader([folders[0]]) as bag:
        names = {
            name: parts
            for name, topic in topics.items()
            if name not in cameras and (parts := names_of(next(messages(bag, topic))[1]))
        }
        sizes = {name: image_of(next(messages(bag, topics[name]))[1]).shape for name in cameras}
    layout = Topics(topics, names, cameras, choice.fps or 1.0)
    left_out = {
        topic: f"not in --topics; take it with --topics FEATURE={topic}"
        for topic in types
        if topic not in topics.values()
    }
    return Source(str(path), KIND, len(folders), read, choice.fps, sizes, names=names, left_out=left_out)


def reader_class(path: Path) -> Any:
    """What reads bags. Raises BadInput where the package rosbags is missing."""
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise BadInput(
            f"{path}: a ROS 2 bag, which needs the package rosbags; install it with: pip install 'vqbet_course[ros]'"
        ) from None
    return lambda bags: AnyReader(bags, default_typestore=get_typestore(Stores.ROS2_HUMBLE))


def check_topics(path: Path, topics: dict[str, str], types: dict[str, str], fps: float | None) -> None:
    """Raise BadInput unless topics are given for the action and what is observed, and a rate."""
    known = ", ".join(sorted(types))
    unknown = next((topic for topic in topics.values() if topic not in types), None)
    if "action" not in topics or len(topics) < 2 or unknown is not None:
        raise BadInput(
            f"{path}: {f'has no topic {unknown}' if unknown else 'say which topics to take'}: --topics "
            f"action=TOPIC --topics observation.state=TOPIC --fps N; its topics: {known}"
        )
    if fps is None:
        raise BadInput(f"{path}: messages come at rates of their own; give the rate of the frames with --fps N")


def messages(bag: Any, topic: str) -> Iterator[Message]:
    """The messages of a topic in the order of their recording, each with its time."""
    connections = [connection for connection in bag.connections if connection.topic == topic]
    if not connections:
        raise BadEpisode(str(bag.paths[0]), f"has no topic {topic}")
    for connection, recorded, data in bag.messages(connections=connections):
        message = bag.deserialize(data, connection.msgtype)
        stamp = getattr(getattr(message, "header", None), "stamp", None)
        stated = stamp.sec * SECOND + stamp.nanosec if stamp is not None else 0
        yield stated or recorded, message


def names_of(message: Any) -> list[str]:
    """The names of a message's numbers, where it states them."""
    return [str(name) for name in getattr(message, "name", [])]


def numbers_of(message: Any, names: list[str], place: str) -> np.ndarray:
    """The numbers (size,) of a message: positions of joints by name, an array's data, or all fields in order. `names`:
    those of the joints to take, empty where the first message of the first bag states none."""
    if names and hasattr(message, "position"):
        found = dict(zip(names_of(message), message.position, strict=False))
        missing = next((name for name in names if name not in found), None)
        if missing is not None:
            raise BadInput(f"{place}: a message has no joint {missing}, which the first bag has")
        return np.array([found[name] for name in names], np.float64)
    if hasattr(message, "position") and hasattr(message, "name"):
        return np.array(message.position, np.float64)
    if hasattr(message, "data"):
        return np.atleast_1d(np.asarray(message.data, np.float64))
    return np.array(list(plain_numbers(message)), np.float64)


def plain_numbers(value: Any) -> Iterator[float]:
    """All numbers of a message in the order of its fields, without its header."""
    if isinstance(value, int | float | np.number):
        yield float(value)
    elif isinstance(value, np.ndarray | list | tuple):
        for part in value:
            yield from plain_numbers(part)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            if name != "header" and not name.startswith("__"):
                yield from plain_numbers(getattr(value, name))


def image_of(message: Any) -> np.ndarray:
    """An image (H, W, 3) uint8. Raises BadInput for encodings other than rgb8, bgr8 and compressed ones."""
    if hasattr(message, "format"):
        return decoded(bytes(message.data))
    if message.encoding not in ("rgb8", "bgr8"):
        raise BadInput(f"images are kept as {message.encoding}; only rgb8, bgr8 and compressed images are read")
    rows = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.step)
    image = rows[:, : 3 * message.width].reshape(message.height, message.width, 3)
    return image if message.encoding == "rgb8" else image[:, :, ::-1]


def episode_of(bag: Any, reader: Any, folder: Path, number: int, layout: Topics) -> Episode:
    """One bag as an episode, resampled by the rules above."""
    place = f"{folder}, episode {number}"
    times: dict[str, np.ndarray] = {}
    values: dict[str, np.ndarray] = {}
    for name, topic in layout.topics.items():
        stamps, rows = [], []
        for time, message in messages(bag, topic):
            stamps.append(time)
            if name not in layout.cameras:
                rows.append(numbers_of(message, layout.names.get(name, []), place))
        times[name], values[name] = np.array(stamps, np.int64), np.array(rows)
    chosen = nearest_before(times, layout.fps, place)
    numbers = {name: values[name][chosen[name]] for name in values if name not in layout.cameras}
    images = {name: frames_of(reader, folder, layout.topics[name], chosen[name]) for name in layout.cameras}
    return Episode(numbers, place, images)


def nearest_before(times: dict[str, np.ndarray], fps: float, place: str) -> dict[str, np.ndarray]:
    """{feature: the number (T,) of its message in each frame}, from {feature: times (n,) of its messages, nanoseconds}."""
    for name, stamps in times.items():
        if not len(stamps) or (np.diff(stamps) < 0).any():
            raise BadEpisode(place, f"{name} has no messages, or their times go back")
    begin, end = max(t[0] for t in times.values()), min(t[-1] for t in times.values())
    if end < begin:
        raise BadEpisode(place, "its topics do not overlap in time")
    n = int((end - begin + TOLERANCE) * fps / SECOND) + 1
    ticks = begin + np.round(np.arange(n) * SECOND / fps).astype(np.int64)
    return {name: np.searchsorted(stamps, ticks + TOLERANCE, side="right") - 1 for name, stamps in times.items()}


def frames_of(reader: Any, folder: Path, topic: str, chosen: np.ndarray) -> Frames:
    """The images of a topic's messages of these numbers, which do not fall."""

    def frames() -> Iterator[np.ndarray]:
        with reader([folder]) as bag:
            every = enumerate(messages(bag, topic))
            at, message = next(every)
            for wanted in chosen:
                while at < wanted:
                    at, message = next(every)
                yield image_of(message[1])

    return frames
