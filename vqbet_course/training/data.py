"""Demonstrations prepared for training: a configuration that fits them, and their windows, made once."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract
from vqbet_course.core.units import UNSTATED
from vqbet_course.datasets.stored_images import stored_in
from vqbet_course.demos import Demos, Normalizer, Windows, episode_rows, make_windows
from vqbet_course.tasks import augmented, task_of
from vqbet_course.training.devices import CPU, Computing
from vqbet_course.training.factory import for_cameras

RELATIVE = "use_relative_actions"
"""The field of the configuration that says whether chunks are relative to `observation.state`."""


@dataclass(frozen=True)
class Setup:
    """What a run trains on: the windows, their normalizer and contract, one normalised unit of action in the action's own
    unit (pixels on PushT), and where and how its network computes."""

    windows: Windows
    normalizer: Normalizer
    contract: Contract
    action_unit: float
    computing: Computing = CPU

    def on(self, computing: Computing) -> "Setup":
        """The same, for a network that computes so."""
        return replace(self, windows=computing.windows(self.windows), computing=computing)


def stated_changes(contract: Contract) -> dict[str, Any]:
    """The fields that the task of this contract changes in the laptop's configuration. Actions are never relative to an
    `observation.state` that may be another quantity; where they could be relative and the task does not state it,
    `use_relative_actions` is left out."""
    own = task_of(contract)
    stated = dict(own.laptop if own else {})
    if not same_quantities(contract):
        return stated | {RELATIVE: False}
    return {RELATIVE: True} | stated if named_positions(contract) else stated


def laptop_changes(demos: Demos) -> dict[str, Any]:
    """The fields that demonstrations change in the laptop's configuration: what `stated_changes` says of their contract,
    and `use_relative_actions` by `are_positions` where it does not."""
    stated = stated_changes(demos.contract)
    return stated if RELATIVE in stated else stated | {RELATIVE: are_positions(demos)}


def are_positions(demos: Demos) -> bool:
    """Whether actions are positions of `observation.state`, to which they can be relative, and not displacements or
    velocities: whether they lie nearer to the state than to the move (times any one factor) to the next state."""
    within = np.ones(len(demos.action), bool)
    within[demos.episode_ends - 1] = False
    state, action = (v.astype(np.float64) for v in (demos.observation["observation.state"], demos.action))
    move, state, action = np.diff(state, axis=0, append=state[-1:])[within], state[within], action[within]
    factor = max(0.0, float((action * move).sum() / max((move**2).sum(), 1e-12)))
    return bool(((action - state) ** 2).sum() <= ((action - factor * move) ** 2).sum())


def same_quantities(contract: Contract) -> bool:
    """Whether `observation.state` and the action are the same quantities: in the same known units, else, where neither
    has one, under the same names of positions, as `shoulder_pan.pos`."""
    if contract.observation.get("observation.state") != contract.action:
        return False
    return UNSTATED not in contract.action.unit_of_each or named_positions(contract)


def named_positions(contract: Contract) -> bool:
    """Whether `observation.state` and the action have the same names of positions, as `shoulder_pan.pos`."""
    state, action = contract.observation.get("observation.state"), contract.action
    positions = bool(action.names) and all(name.endswith(".pos") for name in action.names)
    return positions and state is not None and state.names == action.names


def fitting(demos: Demos, weights: str | None = None) -> VQBeTConfig:
    """The laptop's configuration, as wide as the demonstrations, with what their task changes. `weights`: those of
    torchvision that a camera starts from (lesson 12)."""
    shapes = {name: values.shape[1:] for name, values in demos.observation.items()}
    numbers = {name: shape[0] for name, shape in shapes.items() if len(shape) == 1}
    cameras = {name: shape for name, shape in shapes.items() if len(shape) == 3}
    return VQBeTConfig.laptop(
        observation_sizes=numbers,
        action_dim=demos.action.shape[1],
        **(laptop_changes(demos) | for_cameras(cameras, weights)),
    )


@dataclass(frozen=True)
class Fitted:
    """A configuration that fits demonstrations: what `fitting` finds, with some fields changed.

    changes: these fields; weights: those of torchvision that a camera starts from (lesson 12)."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None

    def of(self, demos: Demos) -> VQBeTConfig:
        """The configuration for these demonstrations."""
        return replace(fitting(demos, self.weights), **self.changes)


def with_goal(config: VQBeTConfig, goal: str) -> VQBeTConfig:
    """The configuration of a policy that is given goals of this kind (lesson 11); `none`: as it is."""
    if goal == "none":
        return config
    from vqbet_course.goals import goal_shape

    return replace(config, goal_shape=goal_shape(goal, config.observation_sizes))


def check_fit(demos: Demos, config: VQBeTConfig) -> None:
    """Raise BadInput unless the sizes agree."""
    found = {
        name: shape[0] if len(shape) == 1 else shape
        for name, shape in ((name, values.shape[1:]) for name, values in demos.columns.items())
    }
    wanted = config.image_shapes | config.observation_sizes | {"action": config.action_dim}
    if found != wanted:
        raise BadInput(f"{demos.source}: holds {found}, the configuration expects {wanted}")


def too_short(demos: Demos, config: VQBeTConfig) -> list[int]:
    """The numbers of the demonstrations that have too few frames for a single training window."""
    c, lengths = config, demos.episode_ends - demos.episode_starts
    rows = [episode_rows(0, int(n), c.n_obs_steps, c.n_queries, c.action_chunk_size)[0] for n in lengths]
    return [number for number, windows in enumerate(rows) if len(windows) == 0]


def decode_images(demos: Demos, config: VQBeTConfig) -> None:
    """Decode the images of demonstrations into their cache, and say before what they take in memory and on the disk."""
    found = stored_in(demos.observation)
    stored = list(found.values())
    if stored and not stored[0].files.cache.quiet:
        numbers = sum(values.nbytes for name, values in demos.columns.items() if name not in found)
        frame = sum(prod(images.shape[1:]) for images in stored)
        batch = config.batch_size * config.n_obs_steps * frame * 5  # bytes, then numbers of four bytes
        print(f"memory: {numbers / 1e9:.2f} GB of numbers, {batch / 1e9:.2f} GB of images in a batch", file=sys.stderr)
    for images in stored:
        images.fill()


def prepare(
    demos: Demos, config: VQBeTConfig, augment: bool, goal: str = "none", normalizer: Normalizer | None = None
) -> Setup:
    """The windows of demonstrations, made once for the whole run; `goal` says how goals are drawn (lesson 11).
    `normalizer`: that of the weights to train on (lesson 15), by default one that fits the demonstrations.

    Raises BadInput when they do not fit the configuration."""
    check_fit(demos, config)
    decode_images(demos, config)
    contract = demos.contract
    demos = augmented(demos, config.action_chunk_size) if augment else demos
    normalizer = normalizer or Normalizer.fit(demos, relative=config.use_relative_actions)
    windows = make_windows(
        demos, normalizer, config.n_obs_steps, config.n_queries, config.action_chunk_size, config.use_relative_actions
    )
    if config.goal_shape:
        from vqbet_course.goals import with_goals

        windows, normalizer, contract = with_goals(
            goal, config.goal_shape[0], demos.episode_ends, windows, normalizer, contract
        )
    return Setup(windows, normalizer, contract, normalizer.unit("action"))
