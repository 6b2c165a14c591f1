"""Which episodes of a source are trained on, and which are held out: drawn by episode, never by frame."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqbet_course.core.configuration import typed
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json
from vqbet_course.datasets.readers import DEMO_FOLDER
from vqbet_course.datasets.source import Source
from vqbet_course.demos import Demos, Normalizer


@dataclass(frozen=True)
class Split:
    """Which episodes of a source, by number, are for what; none is for two. `stress`: held out, and with the start
    states farthest from those of `train`. n_episodes: how many the source has."""

    source: str
    n_episodes: int
    train: list[int]
    val: list[int] = field(default_factory=list)
    stress: list[int] = field(default_factory=list)
    seed: int | None = None

    def __post_init__(self) -> None:
        used = [*self.train, *self.val, *self.stress]
        if (
            not self.train
            or len(set(used)) < len(used)
            or any(type(e) is not int or not 0 <= e < self.n_episodes for e in used)
        ):
            raise BadInput(
                f"split of {self.source}: episodes must be numbers below {self.n_episodes}, each in one "
                "part, some of them in train; make it again"
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as {name: value}."""
        return asdict(self)

    def keeping(self, episodes: Sequence[int]) -> "Split":
        """The split with these episodes alone. Raises BadInput where none of them is for training."""
        kept = {part: [e for e in getattr(self, part) if e in set(episodes)] for part in ("train", "val", "stress")}
        if not kept["train"]:
            raise BadInput(f"split of {self.source}: none of the episodes to train on does this task; make it again")
        return replace(self, train=kept["train"], val=kept["val"], stress=kept["stress"])

    def part(self, name: str) -> list[int]:
        """The episodes that are held out as `val` or `stress`."""
        return {"val": self.val, "stress": self.stress}[name]

    def check_size(self, source: str, n_episodes: int) -> None:
        """Raise BadInput unless a source has as many episodes as the one that was split."""
        if n_episodes != self.n_episodes:
            raise BadInput(
                f"{source}: has {n_episodes} episodes, the split was made of {self.n_episodes} of "
                f"{self.source}; make it again"
            )

    def training(self, demos: Demos) -> Demos:
        """The episodes to train on. Raises BadInput as `check_size` does."""
        self.check_size(demos.source, len(demos))
        return demos.select(self.train)


def same_source(first: str, second: str) -> bool:
    """Whether two SOURCEs are the same demonstrations: by their place on the disk; where one of them is not there, by
    its last name, so that data that were moved are not taken for others."""
    if first == second:
        return True
    one, other = (DEMO_FOLDER if text == "demo" else Path(text) for text in (first, second))
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.name == other.name


def read_split(path: Path) -> Split:
    """A split from its file. Raises BadInput for one that is missing or damaged."""
    if not path.is_file():
        raise BadInput(f"{path}: no such split; make one with: vqbet-course demos split SOURCE --out {path}")
    return read_json(path, lambda values: typed(Split, values))


def stated_split(source: Source, parts: Sequence[str]) -> Split:
    """The split that a source states itself: the names of its parts to train on, to validate, and for the stress test.

    Raises BadInput for a name that it has not, and for parts that share episodes."""
    if not 1 <= len(parts) <= 3:
        raise BadInput(f"--parts {','.join(parts)}: give TRAIN,VAL or TRAIN,VAL,STRESS")
    for name in parts:
        if name not in source.splits:
            raise BadInput(f"{source.path}: has no part {name}; its parts: {', '.join(source.splits) or 'none'}")
    train, val, stress = [*(list(source.splits[name]) for name in parts), [], []][:3]
    return Split(source.path, source.n_episodes, train, val, stress)


def split_demos(demos: Demos, n_train: int, n_val: int, seed: int = 0) -> Split:
    """Draw `n_train` and `n_val` episodes; of those left, up to `n_val` with the farthest start states are `stress`.

    Far: by the normalised distance of the first observation to the nearest of `train`. Raises BadInput for too many."""
    if seed < 0:
        raise BadInput(f"seed {seed}: give 0 or more")
    if n_train < 1 or n_val < 0 or n_train + n_val > len(demos):
        raise BadInput(
            f"{demos.source}: {n_train} to train and {n_val} to validate do not fit {len(demos)} episodes; --train takes "
            f"1 or more, --val 0 or more, both together at most {len(demos)}"
        )
    train, val, rest = np.split(np.random.default_rng(seed).permutation(len(demos)), [n_train, n_train + n_val])
    normalizer = Normalizer.fit(demos.select(train))
    starts = torch.cat(
        [
            normalizer.normalize(name, torch.from_numpy(values[demos.episode_starts]))
            for name, values in demos.observation.items()
        ],
        dim=1,
    )
    far = torch.cdist(starts[rest], starts[train]).min(1).values.argsort(descending=True, stable=True)
    parts = [sorted(part.tolist()) for part in (train, val, rest[far[:n_val].numpy()])]
    return Split(demos.source, len(demos), parts[0], parts[1], parts[2], seed)
