"""What every kind of source is read as: episodes, one after the other, and what the source says about itself."""

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field
from vqbet_course.core.units import UNSTATED

TASK_INDEX = "task_index"
"""The feature that says, for each frame, which of the source's tasks is done; left away where there is only one."""

LARGEST = 2**31
"""Bytes of numbers in one episode, or of one image, beyond which a declared shape is not believed."""

Frames = Callable[[], Iterator[np.ndarray]]
"""A call gives the images of an episode one by one, each (H, W, 3) uint8: no episode of them is ever in memory."""


class BadEpisode(BadInput):
    """BadInput about one episode, against which it helps to leave that episode out.

    place: the episode; what: what is wrong with it; other: what helps, too; row: of the episode, where that is known;
    number: what the source calls it, where the one that it was to be read as may be another."""

    def __init__(self, place: str, what: str, other: str = "", row: int | None = None, number: int | None = None):
        super().__init__(place, what, other, row, number)
        self.place, self.what, self.other, self.row, self.number = place, what, other, row, number

    def __str__(self) -> str:
        return self.told([] if self.number is None else [self.number])

    @property
    def reason(self) -> str:
        """What is wrong, and in which row."""
        return self.what if self.row is None else f"row {self.row}: {self.what}"

    def told(self, dropped: Sequence[int]) -> str:
        """The message, with the command that leaves out the episodes of these numbers."""
        at = "" if self.row is None else f", row {self.row}"
        command = f"vqbet-course demos convert ... --drop-episodes {','.join(map(str, dropped)) or 'N'}"
        other = f", {self.other}" if self.other else ""
        return f"{self.place}{at}: {self.what}; leave the episode out with: {command}{other}"


@dataclass(frozen=True)
class Episode:
    """One demonstration of T frames.

    numbers {feature: (T, size)}, of which `observation.*` and `action` are in the source's units; images {feature: its
    Frames}; place, file and number of the episode, for messages; clock (T,), the time of each frame in seconds, where
    the source states it.
    """

    numbers: dict[str, np.ndarray]
    place: str
    images: dict[str, Frames] = field(default_factory=dict)
    clock: np.ndarray | None = None

    def __post_init__(self) -> None:
        if "action" not in self.numbers:
            raise BadInput(f"{self.place}: no action; a demonstration is what was seen and what was done")

    def __len__(self) -> int:
        return len(self.numbers["action"])

    def checksum(self) -> str:
        """SHA-256 of the names and the bytes of states and actions."""
        digest = hashlib.sha256()
        for name in sorted(filter(is_state_or_action, self.numbers)):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.numbers[name]).tobytes())
        return digest.hexdigest()


def is_state_or_action(feature: str) -> bool:
    """Whether a policy may read or must learn this feature; the others only come along."""
    return feature == "action" or feature.startswith("observation.")


@dataclass(frozen=True)
class Source:
    """Demonstrations where they lie. `read(i)` gives episodes i, i + 1, ... as they are stored; fps None: not stated.

    image_sizes {feature: (H, W, 3)}; units and names {feature: unit, a name for each number}, where they are known;
    tasks: all tasks in the order of their `task_index`, empty where there is only `task`; left_out {what the source has
    and its episodes do not: why, and the option that takes it}; splits {name: numbers of episodes}, as it states them;
    ignore_gaps: episodes whose frames are not evenly spaced are taken as if they were; dropped: the numbers of episodes
    that `Choice.drop_episodes` has left out already; numbers: what episodes were called before some were left out, empty:
    0, 1, ...; choice: what was chosen of it, as text; check: raises BadInput for an episode that cannot be used,
    beyond what `check_episode` asks of any.
    """

    path: str
    kind: str
    n_episodes: int
    read: Callable[[int], Iterator[Episode]]
    fps: float | None
    image_sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    task: str = UNSTATED
    robot: str = UNSTATED
    operator: str = UNSTATED
    license: str = UNSTATED
    tasks: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    splits: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ignore_gaps: bool = False
    dropped: frozenset[int] = frozenset()
    numbers: tuple[int, ...] = ()
    choice: str = ""
    check: Callable[[Episode], None] = lambda episode: None

    def __post_init__(self) -> None:
        if self.n_episodes < 1:
            raise BadInput(f"{self.path}: no episodes; give at least one demonstration")

    @property
    def rate(self) -> float:
        """Frames a second. Raises BadInput where the source does not say."""
        if self.fps is None:
            raise BadInput(
                f"{self.path}: does not say how many frames a second it has; "
                "convert it with: vqbet-course demos convert ... --fps N, or name its task with --task"
            )
        return self.fps

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """Every task, at the place that its `task_index` says."""
        return self.tasks or (self.task,)

    def tasks_of(self, episode: Episode) -> list[str]:
        """The tasks that are done in an episode. Raises BadInput for a number that no task has."""
        numbers, known = np.unique(episode.numbers.get(TASK_INDEX, np.zeros(1, int))), self.all_tasks
        if (numbers < 0).any() or (numbers >= len(known)).any():
            raise BadInput(f"{episode.place}: task_index {numbers[-1]:g} is that of no task; there are {len(known)}")
        return [known[int(number)] for number in numbers]

    @cached_property
    def first(self) -> Episode:
        """The first episode, as `episodes` gives it; read once."""
        return next(self.episodes())

    @property
    def sizes(self) -> dict[str, int]:
        """{state or action: how many numbers it has}, by the first episode."""
        numbers = self.first.numbers
        return {name: int(np.prod(numbers[name].shape[1:])) for name in filter(is_state_or_action, numbers)}

    @cached_property
    def contract(self) -> Contract:
        """Sizes, units and names of states and actions, by the first episode, sizes of images; fps 0: not stated."""
        images = {name: Field(size) for name, size in self.image_sizes.items()}
        numbers = {
            name: Field(size, self.units.get(name, UNSTATED), names=tuple(self.names.get(name, ())))
            for name, size in self.sizes.items()
        }
        action = numbers.pop("action")
        return Contract(images | numbers, action, self.fps or 0.0)

    def episodes(self, start: int = 0) -> Iterator[Episode]:
        """Episodes from number `start` on, states and actions as float32. Raises BadInput for what cannot be read."""
        stored = self.read(start)
        for number in itertools.count(start):
            with self.naming(number), readable(self.path):
                episode = next(stored, None)
                if episode is None:
                    return
                numbers = {
                    name: values.astype(np.float32, copy=False) if is_state_or_action(name) else values
                    for name, values in episode.numbers.items()
                }
            images = {name: self.guarded(frames, number, episode.place) for name, frames in episode.images.items()}
            yield replace(episode, numbers=numbers, images=images)

    def guarded(self, frames: Frames, number: int, place: str) -> Frames:
        """Frames of episode `number` whose troubles are BadInput."""

        def read() -> Iterator[np.ndarray]:
            with self.naming(number), readable(place):
                yield from frames()

        return read

    def sound_episodes(self, start: int = 0) -> Iterator[Episode]:
        """Episodes from number `start` on. Raises BadInput, naming episode and row, for one that cannot be used."""
        sizes: dict[str, int] = {}
        for number, episode in enumerate(self.episodes(start), start):
            with self.naming(number):
                sizes = check_episode(episode, sizes)
                self.tasks_of(episode)
                if not self.ignore_gaps:
                    check_gaps(episode)
                self.check(episode)
            yield episode

    @contextmanager
    def naming(self, number: int) -> Iterator[None]:
        """Give a BadEpisode that is raised inside about episode `number` the command that leaves it out, beside those that
        are left out already."""
        try:
            yield
        except BadEpisode as error:
            numbers = self.dropping([number]) if error.number is None else sorted(self.dropped | {error.number})
            raise BadInput(error.told(numbers)) from None

    def stored_number(self, number: int) -> int:
        """What options like --drop-episodes call episode `number`: its number before some were left out."""
        return self.numbers[number] if number < len(self.numbers) else number

    def dropping(self, numbers: Sequence[int]) -> list[int]:
        """What --drop-episodes needs to leave out these episodes, too; empty where there are none."""
        return sorted(self.dropped | set(map(self.stored_number, numbers))) if numbers else []


DAMAGED = re.compile(
    r"truncat|unexpected end|end of (file|stream)|\beof\b|not a zip|zip file|magic|crc|checksum"
    r"|corrupt|invalid data|incomplete|decompress|broken|couldn't deserialize|cannot identify image|signature"
    r"|too (small|short)|out of bounds|thrift|snappy|zstd",
    re.I,
)
"""What libraries say of a file that was cut off or whose bytes were changed."""


@contextmanager
def readable(place: str) -> Iterator[None]:
    """Whatever a library has against a file, as BadInput; each library has classes of its own for it."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        damaged = DAMAGED.search(reason) or isinstance(error, EOFError)
        remedy = "it is cut off or damaged, copy it again" if damaged else "its layout is not the one expected here"
        raise BadInput(f"{place}: not readable ({reason}); {remedy}") from None


REPAIR = "or repair it"
"""What helps, too, against numbers that somebody could correct."""


def check_episode(episode: Episode, sizes: dict[str, int]) -> dict[str, int]:
    """Raise BadEpisode unless the numbers are whole and as wide as in other episodes (`sizes`, empty if there was none);
    returns their widths."""
    found = check_shapes(episode, sizes)
    for name, values in episode.numbers.items():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise BadEpisode(episode.place, f"{name} is not finite", REPAIR, int(bad[0]))
    return found


def check_shapes(episode: Episode, sizes: dict[str, int]) -> dict[str, int]:
    """Raise BadEpisode unless there are numbers in every row, as many as in other episodes (`sizes`, empty if there was
    none); returns how many of each feature."""
    place, n = episode.place, len(episode)
    if n < 2:
        raise BadEpisode(place, f"{n} frame(s), from which nothing can be learned")
    for name, values in episode.numbers.items():
        if name == TASK_INDEX and values.dtype.kind not in "iu":
            raise BadEpisode(place, "task_index must be whole numbers", REPAIR)
        if values.ndim != 2 or len(values) != n:
            raise BadEpisode(place, f"{name} has shape {values.shape}, expected ({n}, size)", REPAIR)
        if values.dtype.kind not in "fiub":
            raise BadEpisode(place, f"{name} does not hold numbers alone", REPAIR)
    found = {name: values.shape[1] for name, values in episode.numbers.items()}
    for name in sorted(found.keys() | sizes.keys()) if sizes else []:
        if found.get(name) != sizes.get(name):
            many = f"{found.get(name, 'no')} numbers a frame, elsewhere {sizes.get(name, 'none')}"
            raise BadEpisode(place, f"{name} has {many}", "or name the features to take with --features")
    return found


def check_cameras(episode: Episode, image_sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise BadEpisode unless it has the cameras that the source has."""
    for name in sorted(image_sizes.keys() ^ episode.images.keys()):
        has = "no" if name in image_sizes else "a"
        what = f"has {has} camera {name}, unlike other episodes"
        raise BadEpisode(episode.place, what, "or name the cameras to take with --cameras")


GAP = 1.5
"""Times the median interval between frames, beyond which frames are missing."""


def gaps(clock: np.ndarray) -> tuple[np.ndarray, float]:
    """The rows (n,) that come too late after the row before, and the median interval in seconds."""
    intervals = np.diff(clock)
    usual = float(np.median(intervals)) if len(intervals) else 0.0
    return np.flatnonzero(intervals > GAP * usual) + 1, usual


def check_gaps(episode: Episode) -> None:
    """Raise BadEpisode where frames are missing or slow by the episode's own clock."""
    if episode.clock is None or len(episode.clock) < 2:
        return
    late, usual = gaps(episode.clock)
    if len(late):
        row = int(late[0])
        late_by = np.diff(episode.clock)[row - 1]
        what = f"comes {late_by:.3g} s after the row before, others {usual:.3g} s ({len(late)} such rows)"
        even = "or take the rows as evenly spaced: vqbet-course demos convert ... --ignore-gaps"
        raise BadEpisode(episode.place, what, even, row)


def last_change(path: Path) -> float:
    """When the newest file of a source was written; 0 for what is no path, like `demo`."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def believable(place: str, shape: Sequence[int], itemsize: int) -> None:
    """Raise BadInput for a declared shape that is too large to be one episode's numbers or one image."""
    size = math.prod(map(int, shape)) * itemsize
    if size > LARGEST:
        raise BadInput(
            f"{place}: declares {' x '.join(map(str, shape))} values, {size / 1e9:.3g} GB; that is not an "
            "episode's, so the file is damaged"
        )


def check_ends(place: str, ends: np.ndarray, n: int) -> None:
    """Raise BadInput unless n frames are cut into whole episodes at `ends` (E,)."""
    if ends.size == 0 or n == 0:
        raise BadInput(f"{place}: no episodes; give at least one demonstration")
    if ends.ndim != 1 or ends[-1] != n or (np.diff(ends, prepend=0) <= 0).any():
        raise BadInput(
            f"{place}: episode_ends must rise and end at the number of frames {n}; an episode is empty or cut off"
        )


def check_frames(place: str, columns: dict[str, np.ndarray], ends: np.ndarray) -> None:
    """Raise BadInput, naming the first episode and row, unless frames end to end, {name: (N, size)}, are usable.
    Images are bytes, which always are."""
    n = len(columns["action"])
    check_ends(place, ends, n)
    for name, values in columns.items():
        is_image = values.dtype == np.uint8 and values.ndim == 4
        if len(values) != n or not (is_image or values.ndim == 2):
            raise BadInput(f"{place}: {name} has shape {values.shape}, expected ({n}, size)")
        if is_image:
            continue
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            episode = int(np.searchsorted(ends, bad[0], side="right"))
            row = bad[0] - (ends[episode - 1] if episode else 0)
            raise BadInput(
                f"{place}, episode {episode}, row {row}: {name} is not finite; repair that episode or leave it out"
            )
