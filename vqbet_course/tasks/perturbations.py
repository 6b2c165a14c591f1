"""Perturbations: what can go wrong on a robot, as Gymnasium wrappers around an evaluation's environment.

A wrapper leaves the contract alone, draws from a generator seeded with the environment seed, writes what it did into
`info["intervention"]`, and, where the policy no longer sees what is so, what is so into `info["true_observation"]`.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput


class Perturbation(gym.Wrapper):
    """One thing that goes wrong, by `amount`, and its name; it has a generator of its own, seeded with the environment
    seed, and counts steps."""

    def __init__(self, env: gym.Env, amount: float, name: str = ""):
        super().__init__(env)
        self.amount, self.name = amount, name or type(self).__name__

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        self.generator, self.steps, self.happened = np.random.default_rng(seed), 0, False
        observation, info = self.env.reset(seed=seed, options=options)
        self.begin(observation)
        return self.show(observation, info)

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict]:
        self.happened = False
        observation, reward, terminated, truncated, info = self.env.step(self.disturb(np.asarray(action)))
        self.steps += 1
        observation, info = self.show(observation, info)
        if self.happened:
            before = info.get("intervention")
            info["intervention"] = f"{before}+{self.name}" if before else self.name
        return observation, reward, terminated, truncated, info

    def begin(self, observation: Any) -> None:
        """Do what is to be done at the start of an episode."""

    def disturb(self, action: np.ndarray) -> np.ndarray:
        """The action (A,) that reaches the environment instead."""
        return action

    def show(self, observation: Any, info: dict) -> tuple[Any, dict]:
        """The observation that the policy sees instead, and the `info` of the step."""
        return observation, info


class ObservationNoise(Perturbation):
    """Gaussian noise of standard deviation `amount`, in the observation's unit, on all numbers that are observed."""

    def __init__(self, env: gym.Env, amount: float, name: str = ""):
        super().__init__(env, amount, name)
        self.observation_space = unbounded(env.observation_space)

    def show(self, observation: Any, info: dict) -> tuple[Any, dict]:
        self.happened = True
        return change_arrays(observation, self.noisy), {"true_observation": observation} | info

    def noisy(self, values: np.ndarray) -> np.ndarray:
        """Numbers (size,) with noise, of the same type; an image as it is."""
        if values.ndim != 1:
            return values
        return (values + self.amount * self.generator.standard_normal(values.shape)).astype(values.dtype)


class FrozenFrames(Perturbation):
    """A stale camera: only every `amount`-th frame arrives, and is observed until the next."""

    def show(self, observation: Any, info: dict) -> tuple[Any, dict]:
        if self.steps % int(self.amount) == 0:
            self.last = observation
        else:
            self.happened = True
        return change_arrays(self.last, np.copy), {"true_observation": observation} | info


class LateObjects(Perturbation):
    """What `environment_state` says of the world is observed as it was `amount` steps before; the robot's own state is
    observed as it is."""

    def begin(self, observation: Any) -> None:
        self.seen: deque[np.ndarray] = deque(maxlen=int(self.amount) + 1)

    def show(self, observation: Any, info: dict) -> tuple[Any, dict]:
        self.seen.append(np.copy(observation["environment_state"]))
        self.happened = True
        return observation | {"environment_state": np.copy(self.seen[0])}, {"true_observation": observation} | info


class DelayedActions(Perturbation):
    """Actions arrive `amount` steps late; until then, the first action is executed."""

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
}
"""Those that fit every environment; a task may have more (`Task.perturbations`)."""


def parse_perturbation(asked: str, kinds: Mapping[str, Kind] = KINDS) -> tuple[str, float]:
    """`NAME` or `NAME=value` -> name and amount. Raises BadInput for an unknown name or an impossible amount."""
    name, _, value = asked.partition("=")
    if name not in kinds:
        raise BadInput(f"unknown perturbation {name!r}; choose from {', '.join(kinds)}")
    kind = kinds[name]
    try:
        amount = float(value) if value else kind.usual
    except ValueError:
        raise BadInput(f"{asked}: {value!r} is not a number; {name} takes {kind.unit}") from None
    if not kind.least <= amount < np.inf:
        raise BadInput(f"{asked}: give at least {kind.least:g}; {name} takes {kind.unit}")
    return name, amount


def perturbed(
    make: Callable[[], gym.Env], asked: Sequence[str], kinds: Mapping[str, Kind] = KINDS
) -> Callable[[], gym.Env]:
    """`make`, with every perturbation that was asked for around the environment. Raises BadInput as
    `parse_perturbation` does."""
    chosen = [parse_perturbation(a, kinds) for a in asked]

    def made() -> gym.Env:
        env = make()
        for name, amount in chosen:
            env = kinds[name].wrapper(env, amount, name)
        return env

    return made


def unbounded(space: gym.Space) -> gym.Space:
    """The space of observations whose numbers (size,) may have any value; images stay bounded."""
    if isinstance(space, gym.spaces.Dict):
        return gym.spaces.Dict({name: unbounded(part) for name, part in space.spaces.items()})
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        return gym.spaces.Box(-np.inf, np.inf, space.shape, space.dtype)
    return space


def change_arrays(observation: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """An observation with `change` applied to each of its arrays."""
    if isinstance(observation, dict):
        return {name: change(values) for name, values in observation.items()}
    return change(observation)
