"""Perturbations of what the two arms handle."""

from typing import Any

import numpy as np

from vqbet_course.tasks.aloha.kinematics import hand_positions
from vqbet_course.tasks.perturbations import Kind, LateObjects, Perturbation

NEAR = (0.06, 0.14)
"""Metres between hand and object, at least and at most, at which an object that is approached is displaced."""


class MoveOnApproach(Perturbation):
    """The first object that its arm comes near to, but does not touch yet, is displaced on the table by `amount` metres,
    once in an episode, in a direction drawn by the episode."""

    def begin(self, observation: Any) -> None:
        self.world: Any = self.unwrapped
        self.moved = False

    def disturb(self, action: np.ndarray) -> np.ndarray:
        if not self.moved:
            hands, objects = hand_positions(self.world.seen["agent_pos"]), self.world.poses()[:, :3]
            for number, arm in enumerate(self.world.scene.arms):
                if NEAR[0] < np.linalg.norm(hands[arm] - objects[number]) < NEAR[1] and not self.moved:
                    self.moved = self.happened = self.world.displace(number, self.amount, self.generator)
        return action


ALOHA_KINDS = {
    "move-on-approach": Kind(MoveOnApproach, 0.03, 0.0, "metres by which the approached object is displaced"),
    "late-objects": Kind(LateObjects, 5.0, 0.0, "steps of 20 ms by which the observed objects are late"),
}
"""What can go wrong with ALOHA, beside what can everywhere."""
