"""Demonstrations of ALOHA as frames."""

from collections.abc import Iterator

import numpy as np

from vqbet_course.datasets.source import Episode, Frames
from vqbet_course.tasks.aloha.contract import AlohaScene
from vqbet_course.tasks.aloha.environment import AlohaEnv


def rendered_states(scene: AlohaScene, episode: Episode, size: int) -> Frames:
    """The states of a demonstration, rendered: (size, size, 3) uint8 each."""
    names = list(scene.contract.data.observation)

    def rendered() -> Iterator[np.ndarray]:
        env = AlohaEnv(scene.name)
        env.reset(seed=0)
        for poses, joints in zip(*(episode.numbers[name].astype(float) for name in names), strict=True):
            env.show(poses, joints)
            yield env.image(size)

    return rendered
