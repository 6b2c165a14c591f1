"""Held-out episodes of a split: an evaluation starts where they start, and compares its actions with theirs."""

from dataclasses import dataclass
from pathlib import Path

import torch

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.splits import Split, read_split
from vqbet_course.demos import Demos, load_demos, make_windows
from vqbet_course.tasks import open_source
from vqbet_course.training.runs import Run


@dataclass(frozen=True)
class HeldOut:
    """A part, `val` or `stress`, of a split, and all the demonstrations that were split."""

    split: Split
    part: str
    demos: Demos

    @property
    def episodes(self) -> list[int]:
        """The numbers of its episodes."""
        return self.split.val if self.part == "val" else self.split.stress

    @property
    def resets(self) -> str:
        """What a task's contract says of resets when an evaluation starts where they start."""
        return f"where the episodes for {self.part} of {self.split.source} start"


def held_out(file: Path, part: str, run: Run) -> HeldOut:
    """A part of the split in a file. Raises BadInput where it is empty or was trained on."""
    split = read_split(file)
    found = HeldOut(split, part, split.whole(load_demos(open_source(split.source, task=run.plan.task))))
    if not found.episodes:
        raise BadInput(f"{file}: has no episodes for {part}; make another split")
    own = run.path / "split.json"
    trained = read_split(own) if own.exists() else None
    seen = sorted(set(found.episodes) & set(trained.train)) if trained and trained.source == split.source else []
    if seen:
        raise BadInput(
            f"{run.path}: was trained on {len(seen)} of the {len(found.episodes)} episodes for {part}, on "
            f"episode {seen[0]} for one; train it with --split {file}"
        )
    return found


@torch.no_grad()
def held_out_action_error(run: Run, held: HeldOut) -> float | None:
    """The mean absolute difference per number, in the action's unit, between the actions that the policy would execute
    and those demonstrated, over all moments of the held-out episodes. None for a policy with goals: a demonstration does
    not say which it had."""
    policy, c = run.policy.eval(), run.policy.config
    if c.goal_shape is not None:
        return None
    demos = held.demos
    if c.image_shapes:
        source = open_source(held.split.source, task=run.plan.task)
        demos = load_demos(source, [*c.image_shapes, *c.observation_sizes])
    windows = make_windows(
        demos.select(held.episodes),
        run.normalizer,
        c.n_obs_steps,
        c.n_queries,
        c.action_chunk_size,
        c.use_relative_actions,
    )
    draws, wrong = torch.Generator().manual_seed(0), list[torch.Tensor]()
    low, high = run.normalizer.bounds["action"]
    for rows in torch.arange(len(windows.chunk_index)).split(c.batch_size if c.image_shapes else 1024):
        features = policy.network.features(windows.seen(rows))[:, c.n_obs_steps - 1]  # the query of now
        uniform = torch.rand(len(rows), c.vqvae_n_layers, generator=draws)
        done = windows.chunks[windows.chunk_index[rows, c.n_obs_steps - 1]]
        decided = policy.network.decide(features, uniform, policy.acting.temperature).actions
        wrong.append((decided - done)[:, : policy.acting.n_action_steps].abs())
    return (torch.cat(wrong) * (high - low) / 2).mean().item()
