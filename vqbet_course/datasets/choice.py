"""What of a source is taken, and under which names: features, cameras, episodes, one task, smaller images."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import TASK_INDEX, Episode, Frames, Source


@dataclass(frozen=True)
class Choice:
    """What is asked of a source beside its place; as it stands: everything, as it is stored.

    fps: frames a second, for sources that do not say; features, cameras: the names to take, None: all;
    rename {old: new}; drop_episodes: their numbers; only_task: its text; resize: (height, width) of images;
    ignore_gaps: take rows as evenly spaced whatever their clock says; topics {feature: topic} of a ROS 2 bag."""

    fps: float | None = None
    features: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None
    rename: tuple[tuple[str, str], ...] = ()
    drop_episodes: frozenset[int] = frozenset()
    only_task: str | None = None
    resize: tuple[int, int] | None = None
    ignore_gaps: bool = False
    topics: tuple[tuple[str, str], ...] = ()

    def of(self, source: Source) -> Source:
        """The source with what is chosen of it. Raises BadInput, naming the option, for what it has not."""
        if self.drop_episodes and not source.dropped:
            source = without_episodes(source, self.drop_episodes)
        if self.features is not None or self.cameras is not None:
            source = selected(source, self.features, self.cameras)
        if self.rename:
            source = renamed(source, dict(self.rename))
        if self.resize is not None:
            source = resized(source, *self.resize)
        if self.only_task is not None:
            source = of_task(source, self.only_task)
        text = str(asdict(self) | {"drop_episodes": sorted(self.drop_episodes)})
        return replace(source, ignore_gaps=self.ignore_gaps, choice=text)


def choice_of(
    features: str | None = None,
    cameras: str | None = None,
    rename: Sequence[str] = (),
    drop_episodes: str | None = None,
    resize: str | None = None,
    topics: Sequence[str] = (),
    **others: Any,
) -> Choice:
    """The choice that the options of the command line state. Raises BadInput, naming the option, for another form."""
    return Choice(
        features=names_in(features),
        cameras=names_in(cameras),
        rename=pairs("--rename", rename, "OLD=NEW"),
        drop_episodes=episodes_in(drop_episodes),
        resize=height_and_width(resize),
        topics=pairs("--topics", topics, "FEATURE=TOPIC"),
        **others,
    )


def names_in(text: str | None) -> tuple[str, ...] | None:
    """`a,b` -> (a, b); `none` -> ()."""
    return None if text is None else () if text == "none" else tuple(filter(None, text.split(",")))


def pairs(option: str, texts: Sequence[str], form: str) -> tuple[tuple[str, str], ...]:
    """`a=b` -> (a, b), each. Raises BadInput for another form."""
    split = [tuple(text.split("=", 1)) for text in texts]
    for text, pair in zip(texts, split, strict=True):
        if len(pair) != 2 or not all(pair):
            raise BadInput(f"{option} {text}: give {form}")
    return tuple(split)  # type: ignore[arg-type]


def episodes_in(text: str | None) -> frozenset[int]:
    """`1,4-6` -> {1, 4, 5, 6}. Raises BadInput for another form."""
    numbers: set[int] = set()
    for part in (text or "").split(",") if text else []:
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if match is None or not 0 <= int(match[2] or match[1]) - int(match[1]) <= 10**6:
            raise BadInput(f"--drop-episodes {text}: give numbers of episodes, like 3,7 or 3-5")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(numbers)


def height_and_width(text: str | None) -> tuple[int, int] | None:
    """`96x128` -> (96, 128). Raises BadInput for another form."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise BadInput(f"--resize {text}: give height x width, like 96x128, each from 1 to 9999")
    return int(match[1]), int(match[2])


def with_each(source: Source, change: Callable[[Episode], Episode]) -> Callable[[int], Iterator[Episode]]:
    """A `read` whose episodes are changed."""
    return lambda start: map(change, source.read(start))


def only_episodes(source: Source, numbers: Sequence[int]) -> Source:
    """Only the episodes of these numbers, which rise, out of one pass over all. Raises BadInput where there are none."""

    def read(start: int) -> Iterator[Episode]:
        wanted = set(numbers[start:])
        for number, episode in enumerate(source.read(min(wanted, default=0)), min(wanted, default=0)):
            if number in wanted:
                yield episode
            if number >= max(wanted, default=-1):
                return

    place = {number: new for new, number in enumerate(numbers)}
    splits = {name: tuple(place[e] for e in episodes if e in place) for name, episodes in source.splits.items()}
    stored = tuple(map(source.stored_number, numbers))
    return replace(source, n_episodes=len(numbers), read=read, splits=splits, numbers=stored)


def without_episodes(source: Source, dropped: frozenset[int]) -> Source:
    """All episodes but those of these numbers, which are not even read, for they may be unreadable. Raises BadInput as
    `kept_numbers` does."""
    kept = kept_numbers(source.path, set(range(source.n_episodes)), dropped)

    def read(start: int) -> Iterator[Episode]:
        for run in runs_of(kept[start:]):
            yield from itertools.islice(source.read(run.start), len(run))

    return replace(only_episodes(source, kept), read=read, dropped=dropped)


def kept_numbers(path: str, stored: AbstractSet[int], dropped: AbstractSet[int]) -> list[int]:
    """The numbers up to the last one that is stored, without those dropped, in order: one that is missing is among them.

    Raises BadInput for dropped ones that no stored episode can have, and where none is kept."""
    beyond = sorted(number for number in dropped if number > max(stored, default=-1))
    if beyond:
        raise BadInput(f"{path}: has no episode {beyond[0]} to drop, its {len(stored)} are numbered from 0")
    if not stored - dropped:
        raise BadInput(f"{path}: --drop-episodes leaves no episode")
    return [number for number in range(max(stored - dropped) + 1) if number not in dropped]


def runs_of(numbers: Sequence[int]) -> list[range]:
    """Rising numbers as ranges without a gap."""
    cuts = [0, *(i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1), len(numbers)]
    return [range(numbers[a], numbers[b - 1] + 1) for a, b in itertools.pairwise(cuts) if a < b]


def tasks_beside(source: Source, task: str) -> dict[int, list[str]]:
    """{number of an episode in which this task is done: all tasks that are done in it}. Raises BadInput, naming those
    there are, for another task."""
    if task not in source.all_tasks:
        raise BadInput(f"{source.path}: has no task {task!r}; its tasks: {', '.join(map(repr, source.all_tasks))}")
    done = {number: source.tasks_of(episode) for number, episode in enumerate(source.episodes())}
    found = {number: tasks for number, tasks in done.items() if task in tasks}
    if not found:
        raise BadInput(f"{source.path}: no episode does the task {task!r}")
    return found


def of_task(source: Source, task: str) -> Source:
    """Only the episodes in which this task is done, and only the tasks that are done in them."""
    beside = tasks_beside(source, task)
    tasks = [name for name in source.all_tasks if any(name in done for done in beside.values())]
    place = np.array([tasks.index(name) if name in tasks else -1 for name in source.all_tasks])
    chosen = only_episodes(source, list(beside))

    def change(episode: Episode) -> Episode:
        numbers = dict(episode.numbers)
        index = numbers.pop(TASK_INDEX, None)
        if index is None or len(tasks) == 1:
            return replace(episode, numbers=numbers)
        return replace(episode, numbers=numbers | {TASK_INDEX: place[index.astype(np.int64)]})

    several = tuple(tasks) if len(tasks) > 1 else ()
    return replace(chosen, read=with_each(chosen, change), tasks=several, task="; ".join(tasks))


def selected(source: Source, features: Sequence[str] | None, cameras: Sequence[str] | None) -> Source:
    """Only these features of numbers, beside the action, and these cameras; None: all.

    Raises BadInput for names that the source has not."""
    numbers = [name for name in source.first.numbers if name not in ("action", TASK_INDEX)]
    for option, asked, known in (
        ("--features", features, [*numbers, "action"]),
        ("--cameras", cameras, list(source.image_sizes)),
    ):
        for name in asked or ():
            if name not in known:
                raise BadInput(f"{option} {name}: {source.path} has {', '.join(known) or 'none'}")

    def change(episode: Episode) -> Episode:
        kept = {
            name: values
            for name, values in episode.numbers.items()
            if features is None or name in features or name in ("action", TASK_INDEX)
        }
        images = {name: frames for name, frames in episode.images.items() if cameras is None or name in cameras}
        return replace(episode, numbers=kept, images=images)

    gone = {name: "not in --features" for name in numbers if features is not None and name not in features}
    gone |= {name: "not in --cameras" for name in source.image_sizes if cameras is not None and name not in cameras}
    sizes = {name: size for name, size in source.image_sizes.items() if name not in gone}
    return replace(source, read=with_each(source, change), image_sizes=sizes, left_out=source.left_out | gone)


def renamed(source: Source, names: dict[str, str]) -> Source:
    """The source with other names for features and cameras {old: new}.

    Raises BadInput for a name that it has not, or for two features that would have one name."""
    features = [*source.first.numbers, *source.image_sizes]
    for old in names:
        if old not in features:
            raise BadInput(f"--rename {old}={names[old]}: {source.path} has {', '.join(features)}")
    after = [names.get(name, name) for name in features]
    twice = next((name for name in after if after.count(name) > 1), None)
    if twice is not None or TASK_INDEX in names:
        raise BadInput(f"--rename: {twice or TASK_INDEX} would be the name of two features; choose another name")

    def other[T](values: dict[str, T]) -> dict[str, T]:
        return {names.get(name, name): value for name, value in values.items()}

    def change(episode: Episode) -> Episode:
        return replace(episode, numbers=other(episode.numbers), images=other(episode.images))

    return replace(
        source,
        read=with_each(source, change),
        image_sizes=other(source.image_sizes),
        units=other(source.units),
        names=other(source.names),
    )


def resized_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """A frame (H, W, 3) of bytes with this height and width, averaged where it shrinks."""
    from PIL import Image

    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(frame).resize((width, height), how))


def resized(source: Source, height: int, width: int) -> Source:
    """The source with images of this height and width, averaged where they shrink."""

    def smaller(frames: Frames) -> Frames:
        return lambda: (resized_frame(frame, height, width) for frame in frames())

    def change(episode: Episode) -> Episode:
        return replace(episode, images={name: smaller(frames) for name, frames in episode.images.items()})

    if not source.image_sizes:
        raise BadInput(f"{source.path}: has no images to resize; leave --resize out")
    return replace(
        source, read=with_each(source, change), image_sizes=dict.fromkeys(source.image_sizes, (height, width, 3))
    )


def joined(opened: Sequence[Source]) -> Source:
    """Several sources as one, end to end: numbers matched by name, every task kept.

    Features that not all of them have are left out, and listed. Raises BadInput where rates, units, images or the
    meanings of numbers differ."""
    first = opened[0]
    if len(opened) == 1:
        return first
    for other in opened[1:]:
        check_joinable(first, other)
    shared = set.intersection(*(set(source.first.numbers) for source in opened)) | {TASK_INDEX}
    tasks = list(dict.fromkeys(task for source in opened for task in source.all_tasks))
    orders = [reordered(first, source) for source in opened]
    counts = list(itertools.accumulate((source.n_episodes for source in opened), initial=0))

    def read(start: int) -> Iterator[Episode]:
        for source, order, before, after in zip(opened, orders, counts, counts[1:], strict=False):
            if start < after:
                for episode in source.episodes(max(0, start - before)):
                    yield taking(episode, source, order, shared, tasks)

    gone = {
        name: f"not in every source ({source.path} has it)"
        for source in opened
        for name in source.first.numbers
        if name not in shared
    }
    left_out = {name: why for source in opened for name, why in source.left_out.items()} | gone
    splits: dict[str, tuple[int, ...]] = {}
    for source, before in zip(opened, counts, strict=False):
        for name, episodes in source.splits.items():
            splits[name] = (*splits.get(name, ()), *(before + episode for episode in episodes))
    operators = ", then ".join(dict.fromkeys(source.operator for source in opened))
    return replace(
        first,
        path=" + ".join(source.path for source in opened),
        kind="joined sources",
        read=read,
        operator=operators,
        n_episodes=counts[-1],
        tasks=tuple(tasks),
        left_out=left_out,
        splits=splits,
        numbers=tuple(itertools.chain.from_iterable(source.numbers or range(source.n_episodes) for source in opened)),
        task="; ".join(tasks),
    )


def check_joinable(first: Source, other: Source) -> None:
    """Raise BadInput unless two sources agree in rate, units, images and what their numbers are."""
    both = f"{first.path} and {other.path}"
    if (other.rate, other.units, other.image_sizes) != (first.rate, first.units, first.image_sizes):
        raise BadInput(f"{both} differ in rate, units or images: they cannot be joined")
    for name in first.names.keys() & other.names.keys():
        mine, theirs = first.names[name], other.names[name]
        if sorted(mine) != sorted(theirs) or (len(set(mine)) < len(mine) and mine != theirs):
            differ = sorted(set(mine) ^ set(theirs))
            raise BadInput(f"{both}: {name} holds other numbers ({', '.join(differ[:4])}): they cannot be joined")
    if first.robot != other.robot:
        raise BadInput(f"{both} are of different robots ({first.robot}, {other.robot}): they cannot be joined")


def reordered(first: Source, source: Source) -> dict[str, list[int]]:
    """{feature: where its numbers lie in `source`, in the order of `first`}, where the two name them differently."""
    return {
        name: [source.names[name].index(part) for part in names]
        for name, names in first.names.items()
        if name in source.names and source.names[name] != names
    }


def taking(
    episode: Episode, source: Source, order: dict[str, list[int]], shared: set[str], tasks: list[str]
) -> Episode:
    """An episode with the shared features, its numbers in order, and its tasks by their place in `tasks`."""
    numbers = {
        name: values[:, order[name]] if name in order else values
        for name, values in episode.numbers.items()
        if name in shared
    }
    place = np.array([tasks.index(task) for task in source.all_tasks])
    source.tasks_of(episode)
    index = episode.numbers.get(TASK_INDEX, np.zeros((len(episode), 1), np.int64))
    return replace(episode, numbers=numbers | {TASK_INDEX: place[index.astype(np.int64)]})
