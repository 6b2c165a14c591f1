"""More demonstrations of block_push: the board is its own mirror image, and the blocks differ in colour only."""

from dataclasses import replace

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Demos, with_mirror_images
from vqbet_course.tasks.block_push.contract import BLOCK_PUSH, SIZE

BLOCKS, _ = BLOCK_PUSH.observation

EXCHANGED = [2, 3, 0, 1]
"""The columns of the blocks' centres, with the colours exchanged."""


def augment_block_push(demos: Demos) -> Demos:
    """The demonstrations and their mirror images, then all of these with the blocks' colours exchanged: four times as
    many. Raises BadInput for demonstrations that are not block_push's."""
    if demos.contract.observing(BLOCK_PUSH.observation).features() != BLOCK_PUSH.features():
        raise BadInput(
            f"{demos.source}: not demonstrations of block_push, so nothing can be augmented; leave --augment out"
        )
    both = with_mirror_images(demos, (1.0, 0.0), SIZE / 2, {})
    twice = {name: np.concatenate([values, values]) for name, values in both.columns.items()}
    twice[BLOCKS] = np.concatenate([both.observation[BLOCKS], both.observation[BLOCKS][:, EXCHANGED]])
    ends = np.concatenate([both.episode_ends, both.episode_ends + len(both.action)])
    return replace(both, action=twice.pop("action"), observation=twice, episode_ends=ends)
