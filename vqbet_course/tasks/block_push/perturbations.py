"""Perturbations of block_push's blocks."""

from typing import Any

import numpy as np

from vqbet_course.tasks.block_push.contract import BLOCK_RADIUS, PUSHER_RADIUS
from vqbet_course.tasks.perturbations import Kind, LateObjects, Perturbation

NEAR = 40.0
"""Pixels between pusher and block in which a block that is approached is displaced."""


class ShoveOnApproach(Perturbation):
    """The first block that the pusher comes near to, but does not touch yet, is displaced by `amount` pixels, once in an
    episode, in a direction drawn by the episode in which nothing is in its way."""

    def begin(self, observation: Any) -> None:
        self.world: Any = self.unwrapped
        self.shoved = False

    def disturb(self, action: np.ndarray) -> np.ndarray:
        blocks, pusher = self.world.positions(), np.array(self.world.pusher.position)
        gaps = np.linalg.norm(blocks - pusher, axis=1) - PUSHER_RADIUS - BLOCK_RADIUS
        approached = int(np.argmin(gaps))
        if not self.shoved and 2 < gaps[approached] < NEAR:
            self.shoved = self.happened = self.world.displace_block(approached, self.amount, self.generator)
        return action


BLOCK_PUSH_KINDS = {
    "shove-on-approach": Kind(ShoveOnApproach, 40.0, 0.0, "pixels by which the approached block is displaced"),
    "late-blocks": Kind(LateObjects, 2.0, 0.0, "steps by which the observed blocks are late"),
}
"""What can go wrong on block_push, beside what can everywhere."""
