"""What a policy is shown of PushT's keypoints instead of all of them: alike in demonstrations and while it acts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from vqbet_course.demos import Demos
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.tasks.pusht.geometry import SIZE

KEYPOINTS, _ = PUSHT.observation


class View(Protocol):
    """Changes the keypoints (16,), in pixels, of one frame after another; every episode owns its draws."""

    def begin(self, generator: np.random.Generator) -> None: ...

    def __call__(self, keypoints: np.ndarray) -> np.ndarray: ...


class Hidden:
    """The block is out of sight, its keypoints all 0, in `steps` of every 2 * `steps` frames, from a drawn phase."""

    def __init__(self, steps: int):
        self.steps = steps

    def begin(self, generator: np.random.Generator) -> None:
        self.frame = int(generator.integers(2 * self.steps))

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        hidden = self.frame // self.steps % 2 == 1
        self.frame += 1
        return np.zeros_like(keypoints) if hidden else keypoints


class Distractor:
    """As many keypoints more, of something that wanders over the board and has nothing to do with the task."""

    pace = 10.0
    """Pixels: standard deviation of a coordinate's move in one frame."""

    def begin(self, generator: np.random.Generator) -> None:
        self.generator, self.place = generator, generator.uniform(0, SIZE, 16)

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        self.place = (self.place + self.pace * self.generator.standard_normal(16)).clip(0, SIZE)
        return np.concatenate([keypoints, self.place]).astype(keypoints.dtype)


VIEWS: dict[str, Callable[[], View]] = {
    "hidden-4": lambda: Hidden(4), "hidden-8": lambda: Hidden(8), "distractor": Distractor}


def seen_through(view: View, demos: Demos, seed: int) -> Demos:
    """Demonstrations as they look through a view; episode number e draws from (seed, e)."""
    rows = []
    for episode, (start, end) in enumerate(zip(demos.episode_starts, demos.episode_ends, strict=True)):
        view.begin(np.random.default_rng((seed, episode)))
        rows += [view(keypoints) for keypoints in demos.observation[KEYPOINTS][start:end]]
    return replace(demos, observation=demos.observation | {KEYPOINTS: np.stack(rows)})


class ViewedPushT(gym.Wrapper):
    """PushT through a view, with the draws of the environment seed."""

    def __init__(self, env: gym.Env, view: View):
        super().__init__(env)
        self.view = view

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        observation, info = self.env.reset(seed=seed, options=options)
        self.view.begin(np.random.default_rng(seed))
        return self.show(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        observation, reward, done, late, info = self.env.step(action)
        return self.show(observation), float(reward), done, late, info

    def show(self, observation: dict[str, Any]) -> dict[str, Any]:
        return observation | {"environment_state": self.view(observation["environment_state"])}
