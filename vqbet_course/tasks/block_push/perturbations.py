"""Perturbations of block_push's blocks."""

from typing import Any

import numpy as np

from vqbet_course.tasks.block_push.contract import BLOCK_RADIUS, PUSHER_RADIUS, SIZE
from vqbet_course.tasks.perturbations import Kind, Perturbation

NEAR = 40.0
"""Pixels between pusher and block in which a block that is approached is displaced."""

TRIES = 100
"""Directions that are drawn for a displaced block until nothing is in its way."""


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
            self.shove(approached, blocks, pusher)
        return action

    def shove(self, number: int, blocks: np.ndarray, pusher: np.ndarray) -> None:
        """Displace a block, if there is a free place for it."""
        low, high = 2 * BLOCK_RADIUS, SIZE - 2 * BLOCK_RADIUS  # there is room to push it from everywhere
        for angle in self.generator.uniform(0, 2 * np.pi, TRIES):
            place = blocks[number] + self.amount * np.array([np.cos(angle), np.sin(angle)])
            free = np.linalg.norm(place - pusher) > PUSHER_RADIUS + BLOCK_RADIUS + 5
            free &= np.linalg.norm(place - blocks[1 - number]) > 2 * BLOCK_RADIUS + 5
            if free and low < place.min() and place.max() < high:
                self.world.move_block(number, place)
                self.shoved = self.happened = True
                return


class LateBlocks(Perturbation):
    """The blocks are observed where they were `amount` steps before; the pusher is observed as it is."""

    def begin(self, observation: Any) -> None:
        self.seen: list[np.ndarray] = []

    def show(self, observation: Any, info: dict) -> tuple[Any, dict]:
        self.seen.append(np.copy(observation["environment_state"]))
        late = self.seen[max(0, len(self.seen) - 1 - int(self.amount))]
        self.happened = True
        return observation | {"environment_state": np.copy(late)}, {"true_observation": observation} | info


BLOCK_PUSH_KINDS = {
    "shove-on-approach": Kind(ShoveOnApproach, 40.0, 0.0, "pixels by which the approached block is displaced"),
    "late-blocks": Kind(LateBlocks, 2.0, 0.0, "steps by which the observed blocks are late"),
}
"""What can go wrong on block_push, beside what can everywhere."""
