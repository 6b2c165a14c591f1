"""Held-out episodes: which a run was not trained on, and what its policy decides along them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract
from vqbet_course.datasets.source import UNSTATED, Source
from vqbet_course.datasets.splits import Split, read_split, same_source
from vqbet_course.datasets.stored_images import ImageCache
from vqbet_course.demos import Demos, Windows, load_demos, make_windows
from vqbet_course.training.runs import Run

BATCH = 1024
"""Decisions at once, of a policy that sees no images."""


@dataclass(frozen=True)
class HeldOut:
    """A part, `val` or `stress`, of a split, and all the demonstrations that were split."""

    split: Split
    part: str
    demos: Demos

    @property
    def episodes(self) -> list[int]:
        """The numbers of its episodes."""
        return self.split.part(self.part)

    @property
    def resets(self) -> str:
        """What a task's contract says of resets when an evaluation starts where they start."""
        return f"where the episodes for {self.part} of {self.split.source} start"


def difference_with_remedy(trained: Contract, found: Contract) -> str | None:
    """How the data that a run was trained on differ from others, in words; with what helps, where the first field that
    differs is an image of another size, or does so by a unit that one side does not state. None if they agree."""
    name = trained.first_difference(found)
    if name is None:
        return None
    difference = trained.difference(found)
    mine, theirs = trained.features().get(name), found.features().get(name)
    if mine is None or theirs is None:
        return difference
    if isinstance(mine.size, tuple) and isinstance(theirs.size, tuple):
        height, width, _ = mine.size
        return f"{difference}; convert them with: vqbet-course demos convert ... --resize {height}x{width}"
    if mine.size != theirs.size:
        return difference
    if UNSTATED in mine.unit_of_each:
        return (
            f"{difference}; the run does not know this unit: import its checkpoint again with: vqbet-course import ... "
            "--unit NAME=UNIT, or train again with: vqbet-course train ... --unit NAME=UNIT"
        )
    if UNSTATED in theirs.unit_of_each:
        return f"{difference}; state units with: vqbet-course demos convert ... --unit NAME=UNIT"
    return difference


def held_out(file: Path, part: str, run: Run) -> HeldOut:
    """A part of the split in a file. Raises BadInput where it is empty or was trained on."""
    split = read_split(file)
    source = run.plan.open(split.source)
    held_out_episodes(run, source, file, part)
    return HeldOut(split, part, load_demos(source))


def held_out_episodes(run: Run, source: Source, file: Path | None, part: str) -> list[int]:
    """The episodes of a source that are held out: a part of the split in a file, else those that the run was not trained
    on; where it does not know them (`knows_training`), all. Raises BadInput where there are none, or where the run was
    trained on some of a part."""
    if file is None:
        seen = training_episodes(run, [source.path], source.n_episodes)
        found = [number for number in range(source.n_episodes) if number not in seen]
        if not found:
            raise BadInput(
                f"{run.path}: was trained on all {source.n_episodes} episodes of {source.path}; hold some out: "
                "vqbet-course demos split, then train with --split FILE"
            )
        return found
    split = read_split(file)
    split.check_size(source.path, source.n_episodes)
    found = split.part(part)
    if not found:
        raise BadInput(f"{file}: has no episodes for {part}; make another split")
    both = sorted(training_episodes(run, [source.path, split.source], source.n_episodes) & set(found))
    if both:
        raise BadInput(
            f"{run.path}: was trained on {len(both)} of the {len(found)} episodes for {part}, on "
            f"episode {both[0]} for one; train it with --split {file}"
        )
    return found


def split_of(run: Run) -> Split | None:
    """The split that a run was trained with; None where the run does not say."""
    file = run.path / "split.json"
    return read_split(file) if file.exists() else None


def holds_out(run: Run) -> bool:
    """Whether a run was trained on a split that holds out some episodes."""
    split = split_of(run)
    return split is not None and bool(split.val or split.stress)


def knows_training(run: Run) -> bool:
    """Whether a run says which episodes it was trained on; a checkpoint that was imported does not."""
    return split_of(run) is not None or run.plan.steps > 0


def training_episodes(run: Run, sources: Sequence[str], n_episodes: int) -> set[int]:
    """The episodes of a source of n that a run was trained on; `sources`: by which names the source is known."""
    split = split_of(run)
    names = [run.plan.data, *([split.source] if split else [])]
    if not any(same_source(name, source) for name in names for source in sources):
        return set()
    return set(split.train if split else range(n_episodes))


def training_demos(run: Run, names: Sequence[str]) -> Demos | None:
    """The demonstrations that a run was trained on, with these observations; None where they are not on this machine or
    have changed."""
    split = split_of(run)
    try:
        demos = load_demos(run.plan.open(), names)
        return split.training(demos) if split else demos
    except BadInput:
        return None


@dataclass(frozen=True)
class Decisions:
    """What a policy decides at N moments of demonstrations: `decided` and `done`, chunks (N, W, A) in the unit of the
    action; `codes` (N, G); `row` (N,), the frame of each moment."""

    decided: np.ndarray
    done: np.ndarray
    codes: np.ndarray
    row: np.ndarray


def windows_of(run: Run, demos: Demos) -> Windows:
    """The windows of demonstrations as a run was trained on them, but for those towards goals."""
    c = run.policy.config
    return make_windows(demos, run.normalizer, c.n_obs_steps, c.n_queries, c.action_chunk_size, c.use_relative_actions)


@torch.no_grad()
def decide_along(run: Run, demos: Demos, windows: Windows, wanted: Tensor) -> Decisions:
    """The decisions of a policy without goals in these windows (N,) of demonstrations."""
    policy, c = run.policy.eval(), run.policy.config
    device = next(policy.network.parameters()).device
    draws, decided, codes = torch.Generator().manual_seed(0), [], []
    for rows in wanted.split(c.batch_size if c.image_shapes else BATCH):
        seen = {name: values.to(device) for name, values in windows.seen(rows).items()}
        features = policy.network.features(seen)[:, c.n_obs_steps - 1]  # where now is answered
        uniform = torch.rand(len(rows), c.vqvae_n_layers, generator=draws).to(device)
        decision = policy.network.decide(features, uniform, policy.acting.temperature)
        decision = policy.network.frame.to_absolute(decision, seen).cpu()
        decided.append(run.normalizer.unnormalize("action", decision.actions))
        codes.append(decision.codes)
    row = windows.observation_index[wanted, -1].numpy()
    done = demos.action[row[:, None] + np.arange(c.action_chunk_size)]
    return Decisions(torch.cat(decided).numpy(), done, torch.cat(codes).numpy(), row)


def held_out_action_error(run: Run, held: HeldOut) -> float | None:
    """The mean absolute difference per number, in the action's unit, between the actions that the policy would execute
    and those demonstrated, over all moments of the held-out episodes. None for a policy with goals: a demonstration does
    not say which it had."""
    c = run.policy.config
    if c.goal_shape is not None:
        return None
    demos = held.demos
    if c.image_shapes:
        source = run.plan.open(held.split.source)
        cache = ImageCache(Path(run.plan.cache), quiet=True) if run.plan.cache else None
        demos = load_demos(source, [*c.image_shapes, *c.observation_sizes], cache)
    demos = demos.select(held.episodes)
    windows = windows_of(run, demos)
    found = decide_along(run, demos, windows, torch.arange(len(windows.chunk_index)))
    return float(np.abs(found.decided - found.done)[:, : run.policy.acting.n_action_steps].mean())
