"""What every kind of source is read as: episodes, one after the other, and what the source says about itself."""
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field

UNSTATED = "unstated"

Frames = Callable[[], Iterator[np.ndarray]]
"""A call gives the pictures of an episode one by one, each (H, W, 3) uint8: no episode of them is ever in memory."""


@dataclass(frozen=True)
class Episode:
    """One demonstration of T frames.

    numbers {feature: (T, size)}, of which `observation.*` and `action` are in the source's units; images {feature: its
    Frames}; place, file and number of the episode, for messages.
    """

    numbers: dict[str, np.ndarray]
    place: str
    images: dict[str, Frames] = field(default_factory=dict)

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
    check: raises BadInput for an episode that cannot be used, beyond what `check_episode` asks of any.
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
    check: Callable[[Episode], None] = lambda episode: None

    def __post_init__(self) -> None:
        if self.n_episodes < 1:
            raise BadInput(f"{self.path}: no episodes; give at least one demonstration")

    @property
    def rate(self) -> float:
        """Frames a second. Raises BadInput where the source does not say."""
        if self.fps is None:
            raise BadInput(f"{self.path}: does not say how many frames a second it has; "
                           "convert it with: vqbet-course demos convert ... --fps N, or name its task with --task")
        return self.fps

    @cached_property
    def contract(self) -> Contract:
        """Sizes and units of states and actions, by the first episode, and sizes of images; fps 0: not stated."""
        first = next(self.episodes()).numbers
        images = {name: Field(size) for name, size in self.image_sizes.items()}
        numbers = {name: Field(int(np.prod(values.shape[1:])), self.units.get(name, UNSTATED))
                   for name, values in first.items() if is_state_or_action(name)}
        action = numbers.pop("action")
        return Contract(images | numbers, action, self.fps or 0.0)

    def episodes(self, start: int = 0) -> Iterator[Episode]:
        """Episodes from number `start` on, states and actions as float32. Raises BadInput for what cannot be read."""
        with readable(self.path):
            for episode in self.read(start):
                numbers = {name: values.astype(np.float32, copy=False) if is_state_or_action(name) else values
                           for name, values in episode.numbers.items()}
                guarded = {name: guard(frames, episode.place) for name, frames in episode.images.items()}
                yield replace(episode, numbers=numbers, images=guarded)

    def sound_episodes(self, start: int = 0) -> Iterator[Episode]:
        """Episodes from number `start` on. Raises BadInput, naming episode and row, for one that cannot be used."""
        sizes: dict[str, int] = {}
        for episode in self.episodes(start):
            sizes = check_episode(episode, sizes)
            self.check(episode)
            yield episode


@contextmanager
def readable(place: str) -> Iterator[None]:
    """Whatever a library has against a damaged file, as BadInput; each library has classes of its own for it."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"{place}: not readable ({reason}); copy it again") from None


def guard(frames: Frames, place: str) -> Frames:
    """Frames whose troubles are BadInput."""
    def guarded() -> Iterator[np.ndarray]:
        with readable(place):
            yield from frames()
    return guarded


def check_episode(episode: Episode, sizes: dict[str, int]) -> dict[str, int]:
    """Raise BadInput unless the numbers are whole and as wide as in other episodes (`sizes`, empty if there was none);
    returns their widths."""
    place, n = episode.place, len(episode)
    if n < 2:
        raise BadInput(f"{place}: {n} frame(s); nothing can be learned from it, drop that episode")
    for name, values in episode.numbers.items():
        if values.ndim != 2 or len(values) != n:
            raise BadInput(f"{place}: {name} has shape {values.shape}, expected ({n}, size)")
        if values.dtype.kind not in "fiub":
            raise BadInput(f"{place}: {name} does not hold numbers alone; repair or drop that episode")
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise BadInput(f"{place}, row {bad[0]}: {name} is not finite; repair or drop that episode")
    found = {name: values.shape[1] for name, values in episode.numbers.items()}
    for name in sorted(found.keys() | sizes.keys()) if sizes else []:
        if found.get(name) != sizes.get(name):
            raise BadInput(f"{place}: {name} has {found.get(name, 'no')} numbers a frame, elsewhere "
                           f"{sizes.get(name, 'none')}; all episodes of a source must agree")
    return found


def check_ends(place: str, ends: np.ndarray, n: int) -> None:
    """Raise BadInput unless n frames are cut into whole episodes at `ends` (E,)."""
    if ends.size == 0 or n == 0:
        raise BadInput(f"{place}: no episodes; give at least one demonstration")
    if ends.ndim != 1 or ends[-1] != n or (np.diff(ends, prepend=0) <= 0).any():
        raise BadInput(f"{place}: episode_ends must rise and end at the number of frames {n}; "
                       "an episode is empty or cut off")


def check_frames(place: str, columns: dict[str, np.ndarray], ends: np.ndarray) -> None:
    """Raise BadInput, naming the first episode and row, unless frames end to end, {name: (N, size)}, are usable.
    Pictures are bytes, which always are."""
    n = len(columns["action"])
    check_ends(place, ends, n)
    for name, values in columns.items():
        pictures = values.dtype == np.uint8 and values.ndim == 4
        if len(values) != n or not (pictures or values.ndim == 2):
            raise BadInput(f"{place}: {name} has shape {values.shape}, expected ({n}, size)")
        if pictures:
            continue
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            episode = int(np.searchsorted(ends, bad[0], side="right"))
            row = bad[0] - (ends[episode - 1] if episode else 0)
            raise BadInput(f"{place}, episode {episode}, row {row}: {name} is not finite; repair or drop that episode")
