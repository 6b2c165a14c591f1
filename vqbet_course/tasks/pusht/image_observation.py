"""PushT before a camera: what the evaluator shows to a policy that sees pictures."""
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Field

IMAGE = "observation.image"


class Filmed(gym.Wrapper):
    """PushT that also shows a picture, `image` (3, 96, 96) float32, 0..1, as LeRobot's environment draws it.

    The numbers stay: a policy reads what it was trained on, and the traces hold all of them. Raises BadInput for another
    environment."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        world: Any = env.unwrapped
        if not hasattr(world, "observation_height"):
            raise BadInput(f"{type(world).__name__}: only PushT is filmed for a policy that sees pictures")
        task = env.get_wrapper_attr("contract")
        size = (world.observation_height, world.observation_width, 3)
        self.contract = replace(task, data=replace(task.data, observation={IMAGE: Field(size)} | task.data.observation))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self.show(observation), info

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict]:
        observation, *rest = self.env.step(action)
        return self.show(observation), *rest  # type: ignore[return-value]

    def show(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The numbers, and the picture of the same moment before them."""
        picture = getattr(self.env.unwrapped, "_render")().transpose(2, 0, 1).astype(np.float32) / 255
        return {"image": picture} | observation


def filmed(make: Callable[[], gym.Env], cameras: Sequence[str]) -> Callable[[], gym.Env]:
    """`make`, before a camera for a policy that has one."""
    return (lambda: Filmed(make())) if cameras else make
