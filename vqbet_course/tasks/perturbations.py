"""What can go wrong on a robot, one thing at a time, as Gymnasium wrappers around an evaluation's environment.

A wrapper leaves the contract alone, draws from a generator seeded with the environment seed, writes what it did into
`info["intervention"]`, and, where the policy no longer sees what is so, what is so into `info["true_observation"]`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.tasks.pusht.geometry import SIZE

SHOVE_PX = 60.0
"""How far a shove displaces the block, in pixels."""

RIM_PX = 100.0
"""A shove that would bring the block's origin nearer to a wall than this goes the other way."""


class Perturbation(gym.Wrapper):
    """One thing that goes wrong, by `amount`; it keeps the environment's generator and its own step count."""

    def __init__(self, env: gym.Env, amount: float):
        super().__init__(env)
        self.amount = amount

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        self.generator, self.steps = np.random.default_rng(seed), 0
        observation, info = self.env.reset(seed=seed, options=options)
        self.begin(observation)
        return self.show(observation, info)

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict]:
        self.happened = False
        observation, reward, terminated, truncated, info = self.env.step(self.disturb(np.asarray(action)))
        self.steps += 1
        observation, info = self.show(observation, info)
        if self.happened:
            name = NAMES[type(self)]
            info["intervention"] = f"{info['intervention']}+{name}" if info.get("intervention") else name
        return observation, reward, terminated, truncated, info

    def begin(self, observation: Any) -> None:
        """What is to be done at the start of an episode."""

    def disturb(self, action: np.ndarray) -> np.ndarray:
        """The action (A,) that reaches the environment instead."""
        return action

    def show(self, observation: Any, info: dict) -> tuple[Any, dict]:
        """What the policy sees instead, and what is known of the step."""
        return observation, info


class ObservationNoise(Perturbation):
    """Gaussian noise of standard deviation `amount`, in the observation's unit, on all numbers that are seen."""

    def show(self, observation: Any, info: dict) -> tuple[Any, dict]:
        self.happened = True
        return each(observation, self.noisy), {"true_observation": observation} | info

    def noisy(self, values: np.ndarray) -> np.ndarray:
        """Numbers (size,) with noise; a picture as it is."""
        return values + self.amount * self.generator.standard_normal(values.shape) if values.ndim == 1 else values


class FrozenFrames(Perturbation):
    """A stale camera: only every `amount`-th frame arrives, and is seen until the next."""

    def show(self, observation: Any, info: dict) -> tuple[Any, dict]:
        if self.steps % int(self.amount) == 0:
            self.last = observation
        else:
            self.happened = True
        return self.last, {"true_observation": observation} | info


class DelayedActions(Perturbation):
    """Actions arrive `amount` steps late; until the first arrives, it is waited for at the place it is about."""

    def begin(self, observation: Any) -> None:
        self.waiting: deque[np.ndarray] = deque(maxlen=int(self.amount) + 1)

    def disturb(self, action: np.ndarray) -> np.ndarray:
        self.happened = True
        self.waiting.append(action)
        return self.waiting[0]


class ActionNoise(Perturbation):
    """Gaussian noise of standard deviation `amount`, in the action's unit, within its bounds."""

    def disturb(self, action: np.ndarray) -> np.ndarray:
        self.happened = True
        low, high = self.get_wrapper_attr("contract").action_bounds
        return (action + self.amount * self.generator.standard_normal(action.shape)).clip(low, high)


class Shove(Perturbation):
    """The block is displaced by SHOVE_PX, in a direction drawn by the episode, before step number `amount`."""

    def begin(self, observation: Any) -> None:
        self.world = pusht_world(self)  # not only when it is shoved, after a while

    def disturb(self, action: np.ndarray) -> np.ndarray:
        if self.steps == int(self.amount):
            self.happened, world = True, self.world
            angle, here = self.generator.uniform(0, 2 * np.pi), np.array(world.block.position)
            shove = SHOVE_PX * np.array([np.cos(angle), np.sin(angle)])
            outward = np.abs(here + shove - SIZE / 2) > SIZE / 2 - RIM_PX
            world.block.position = tuple(here + np.where(outward, np.abs(shove) * np.sign(SIZE / 2 - here), shove))
            world.space.reindex_shapes_for_body(world.block)
        return action


class Friction(Perturbation):
    """Another friction coefficient of pusher and block; gym-pusht's is 0."""

    def begin(self, observation: Any) -> None:
        world = pusht_world(self)
        for shape in [*world.agent.shapes, *world.block.shapes]:
            shape.friction = self.amount

    def disturb(self, action: np.ndarray) -> np.ndarray:
        self.happened = True
        return action


@dataclass(frozen=True)
class Kind:
    """A perturbation that can be asked for: its wrapper, its usual amount, the smallest and what the amount is."""

    wrapper: type[Perturbation]
    usual: float
    least: float
    unit: str


KINDS: dict[str, Kind] = {
    "observation-noise": Kind(ObservationNoise, 8.0, 0.0, "standard deviation, in the observation's unit"),
    "frozen-frames": Kind(FrozenFrames, 4.0, 1.0, "steps for which a frame stays"),
    "delayed-actions": Kind(DelayedActions, 2.0, 0.0, "steps"),
    "action-noise": Kind(ActionNoise, 10.0, 0.0, "standard deviation, in the action's unit"),
    "shove": Kind(Shove, 60.0, 0.0, f"the step before which the block is displaced by {SHOVE_PX:g} px"),
    "friction": Kind(Friction, 0.5, 0.0, "friction coefficient of pusher and block"),
}
NAMES = {kind.wrapper: name for name, kind in KINDS.items()}


def parse(asked: str) -> tuple[str, float]:
    """`NAME` or `NAME=value` -> name and amount. Raises BadInput for an unknown name or an impossible amount."""
    name, _, value = asked.partition("=")
    if name not in KINDS:
        raise BadInput(f"unknown perturbation {name!r}; choose from {', '.join(KINDS)}")
    kind = KINDS[name]
    try:
        amount = float(value) if value else kind.usual
    except ValueError:
        raise BadInput(f"{asked}: {value!r} is not a number; {name} takes {kind.unit}") from None
    if not kind.least <= amount < np.inf:
        raise BadInput(f"{asked}: give at least {kind.least:g}; {name} takes {kind.unit}")
    return name, amount


def perturbed(make: Callable[[], gym.Env], asked: Sequence[str]) -> Callable[[], gym.Env]:
    """`make`, with every perturbation that was asked for around the environment. Raises BadInput as `parse` does."""
    chosen = [parse(a) for a in asked]

    def made() -> gym.Env:
        env = make()
        for name, amount in chosen:
            env = KINDS[name].wrapper(env, amount)
        return env

    return made


def each(observation: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """An observation with `change` applied to each of its arrays."""
    if isinstance(observation, dict):
        return {name: change(values) for name, values in observation.items()}
    return change(observation)


def pusht_world(env: gym.Env) -> Any:
    """The PushT at the core of `env`. Raises BadInput for another environment."""
    world = env.unwrapped
    if not hasattr(world, "block"):
        raise BadInput(f"{type(world).__name__} has no block: shove and friction are for PushT")
    return world
