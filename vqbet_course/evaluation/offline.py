"""Episodes of a split that were held back from training: to start from where they start, and to compare with what was
done in them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.splits import Split, read_split
from vqbet_course.demos import Demos, load_demos, make_windows
from vqbet_course.tasks import open_source
from vqbet_course.tasks.perturbations import pusht_world
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.tasks.pusht.geometry import block_pose, place
from vqbet_course.training.runs import Run

KEYPOINTS, PUSHER = PUSHT.observation


@dataclass(frozen=True)
class HeldBack:
    """A part, `val` or `stress`, of a split, and all the demonstrations that were split."""

    split: Split
    part: str
    demos: Demos

    @property
    def episodes(self) -> list[int]:
        """The numbers of its episodes."""
        return self.split.val if self.part == "val" else self.split.stress


def held_back(file: Path, part: str, run: Run) -> HeldBack:
    """A part of the split in a file. Raises BadInput where it is empty, not of PushT, or was trained on."""
    split = read_split(file)
    found = HeldBack(split, part, split.whole(load_demos(open_source(split.source, task=run.plan.task))))
    if not found.episodes:
        raise BadInput(f"{file}: has no episodes for {part}; make another split")
    if KEYPOINTS not in found.demos.observation or found.demos.contract.observation != PUSHT.observation:
        raise BadInput(f"{split.source}: only PushT can be started from where a demonstration starts")
    own = run.path / "split.json"
    trained = read_split(own) if own.exists() else None
    seen = sorted(set(found.episodes) & set(trained.train)) if trained and trained.source == split.source else []
    if seen:
        raise BadInput(f"{run.path}: was trained on {len(seen)} of the {len(found.episodes)} episodes for {part}, on "
                       f"episode {seen[0]} for one; train it with --split {file}")
    return found


class DemonstratedStart(gym.Wrapper):
    """PushT, starting under environment seed i where demonstration i starts, counted round and round."""

    def __init__(self, env: gym.Env, held: HeldBack):
        super().__init__(env)
        first = held.demos.episode_starts
        self.pushers = held.demos.observation[PUSHER][first]
        self.poses = block_pose(held.demos.observation[KEYPOINTS][first])
        task = env.get_wrapper_attr("contract")
        self.contract = replace(task, resets=f"where the episodes for {held.part} of {held.split.source} start")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        _, info = self.env.reset(seed=seed, options=options)
        world, number = pusht_world(self), (seed or 0) % len(self.poses)
        place(world, self.pushers[number], self.poses[number])
        return world.get_obs(), info | world._get_info()


def from_starts(make: Callable[[], gym.Env], held: HeldBack | None) -> Callable[[], gym.Env]:
    """`make`, starting where the demonstrations start; None: where the environment seed says."""
    return make if held is None else lambda: DemonstratedStart(make(), held)


@torch.no_grad()
def action_error(run: Run, held: HeldBack) -> float | None:
    """How far the actions that the policy would execute are from those demonstrated, at every moment of the episodes
    held back: mean absolute difference per number, in the action's unit. None for a policy with goals: a demonstration
    does not say which it had."""
    policy, c = run.policy.eval(), run.policy.config
    if c.goal_shape is not None:
        return None
    demos = held.demos
    if c.image_shapes:
        source = open_source(held.split.source, task=run.plan.task)
        demos = load_demos(source, [*c.image_shapes, *c.observation_sizes])
    windows = make_windows(demos.select(held.episodes), run.normalizer, c.n_obs_steps, c.n_queries,
                           c.action_chunk_size, c.use_relative_actions)
    draws, wrong = torch.Generator().manual_seed(0), list[torch.Tensor]()
    low, high = run.normalizer.bounds["action"]
    for rows in torch.arange(len(windows.chunk_index)).split(c.batch_size if c.image_shapes else 1024):
        features = policy.network.features(windows.seen(rows))[:, c.n_obs_steps - 1]  # the query of now
        uniform = torch.rand(len(rows), c.vqvae_n_layers, generator=draws)
        done = windows.chunks[windows.chunk_index[rows, c.n_obs_steps - 1]]
        wrong.append((policy.network.decide(features, uniform, policy.acting.temperature).actions - done)[:, :policy.acting.n_action_steps].abs())
    return (torch.cat(wrong) * (high - low) / 2).mean().item()
