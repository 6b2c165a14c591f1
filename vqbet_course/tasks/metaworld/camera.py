"""What a camera sees of a MetaWorld task, as an observation."""

from dataclasses import replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
from PIL import Image

from vqbet_course.core.specs import Field
from vqbet_course.tasks.task import IMAGE

IMAGE_SIDE = 96
"""Side of the observed image in pixels."""


class ArmCamera(gym.ObservationWrapper):
    """A MetaWorld task that also observes an image, `image` (3, 96, 96) float32, 0..1. The numbers stay: a policy reads
    what it was trained on, and the traces hold all of them."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        spaces = cast(gym.spaces.Dict, env.observation_space).spaces
        image = gym.spaces.Box(0, 1, (3, IMAGE_SIDE, IMAGE_SIDE), np.float32)
        self.observation_space = gym.spaces.Dict({"image": image} | dict(spaces))
        task, size = env.get_wrapper_attr("contract"), (IMAGE_SIDE, IMAGE_SIDE, 3)
        self.contract = replace(task, data=replace(task.data, observation={IMAGE: Field(size)} | task.data.observation))

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The image, and the numbers of the same moment after it."""
        small = image_of(np.asarray(self.env.render()))
        return {"image": small.transpose(2, 0, 1).astype(np.float32) / 255} | observation


def image_of(frame: np.ndarray) -> np.ndarray:
    """A rendered frame (H, W, 3) uint8 in the size in which it is observed, (96, 96, 3)."""
    return np.asarray(Image.fromarray(frame).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BOX))
