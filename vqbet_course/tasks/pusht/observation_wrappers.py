"""What a policy observes of PushT instead of all keypoints and the pusher, in demonstrations and while it acts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import gymnasium as gym
import numpy as np

from vqbet_course.core.specs import Field
from vqbet_course.demos import Demos
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.tasks.pusht.environment import pusht_world
from vqbet_course.tasks.pusht.geometry import SIZE
from vqbet_course.tasks.task import IMAGE, PartialObservation

KEYPOINTS, _ = PUSHT.observation


class Hidden:
    """The block is out of sight, its keypoints all 0, in `steps` of every 2 * `steps` frames, from a drawn phase."""

    def __init__(self, steps: int):
        self.steps = steps

    def begin(self, generator: np.random.Generator) -> None:
        """Draw the phase."""
        self.frame = int(generator.integers(2 * self.steps))

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        """Keypoints (16,) -> the same, or zeros."""
        hidden = self.frame // self.steps % 2 == 1
        self.frame += 1
        return np.zeros_like(keypoints) if hidden else keypoints


class Distractor:
    """As many keypoints more, of something that moves over the board at random and is no part of the task."""

    pace = 10.0
    """Pixels: standard deviation of a coordinate's move in one frame."""

    def begin(self, generator: np.random.Generator) -> None:
        """Draw where it starts."""
        self.generator, self.place = generator, generator.uniform(0, SIZE, 16)

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        """Keypoints (16,) -> keypoints and distractor (32,)."""
        self.place = (self.place + self.pace * self.generator.standard_normal(16)).clip(0, SIZE)
        return np.concatenate([keypoints, self.place]).astype(keypoints.dtype)


PARTIAL_OBSERVATIONS: dict[str, Callable[[], PartialObservation]] = {
    "hidden-4": lambda: Hidden(4),
    "hidden-8": lambda: Hidden(8),
    "distractor": Distractor,
}


def observed_demos(observation: PartialObservation, demos: Demos, seed: int) -> Demos:
    """Demonstrations as they are observed partially; episode number e draws from (seed, e)."""
    rows = []
    for episode, (start, end) in enumerate(zip(demos.episode_starts, demos.episode_ends, strict=True)):
        observation.begin(np.random.default_rng((seed, episode)))
        rows += [observation(keypoints) for keypoints in demos.observation[KEYPOINTS][start:end]]
    return replace(demos, observation=demos.observation | {KEYPOINTS: np.stack(rows)})


class PartiallyObserved(gym.ObservationWrapper):
    """PushT whose keypoints are observed partially, with the draws of the environment seed."""

    def __init__(self, env: gym.Env, partial: PartialObservation):
        super().__init__(env)
        self.partial = partial
        keypoints = cast(gym.spaces.Dict, env.observation_space)["environment_state"]
        assert isinstance(keypoints, gym.spaces.Box)
        self.partial.begin(np.random.default_rng(0))
        shown = self.partial(np.zeros(keypoints.shape, keypoints.dtype))
        self.observation_space = with_space(
            env,
            environment_state=gym.spaces.Box(keypoints.low.min(), keypoints.high.max(), shown.shape, shown.dtype.type),
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Start an episode, and its draws."""
        self.partial.begin(np.random.default_rng(seed))
        return super().reset(seed=seed, options=options)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The observation with the keypoints that are shown."""
        return observation | {"environment_state": self.partial(observation["environment_state"])}


class WithCamera(gym.ObservationWrapper):
    """PushT that also observes an image, `image` (3, 96, 96) float32, 0..1, as LeRobot's environment draws it.

    The numbers stay: a policy reads what it was trained on, and the traces hold all of them."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        world = pusht_world(env)
        size = (world.observation_height, world.observation_width, 3)
        self.observation_space = with_space(env, image=gym.spaces.Box(0, 1, (3, *size[:2]), np.float32))
        task = env.get_wrapper_attr("contract")
        self.contract = replace(task, data=replace(task.data, observation={IMAGE: Field(size)} | task.data.observation))

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The image, and the numbers of the same moment after it."""
        image = pusht_world(self).frame().transpose(2, 0, 1).astype(np.float32) / 255
        return {"image": image} | observation


def with_space(env: gym.Env, **spaces: gym.Space) -> gym.spaces.Dict:
    """The observation space of `env` with some parts added or replaced."""
    return gym.spaces.Dict(dict(cast(gym.spaces.Dict, env.observation_space).spaces) | spaces)
