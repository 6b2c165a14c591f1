"""Perturbations of MetaWorld's arm and objects, in metres."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vqbet_course.tasks.perturbations import KINDS, ActionNoise, Kind, LateObjects, ObservationNoise, Perturbation

BUMP_STEPS = 10
"""Steps for which the arm is pushed."""

APPROACH = 0.15
"""Metres between hand and object in which an object that is approached is displaced."""


class ArmBump(Perturbation):
    """The hand is pushed by `amount` metres once in an episode, evenly over 10 steps from a drawn one, sideways or up."""

    def begin(self, observation: Any) -> None:
        self.start = int(self.generator.integers(10, 50))
        way = self.generator.standard_normal(3)
        way[2] = abs(way[2])  # not into the table
        self.way = self.amount * way / np.linalg.norm(way)

    def disturb(self, action: np.ndarray) -> np.ndarray:
        if self.start <= self.steps < self.start + BUMP_STEPS and self.amount:
            self.happened = True
            world: Any = self.unwrapped
            world.displace_hand(self.way / BUMP_STEPS)
        return action


class ObjectShove(Perturbation):
    """The first object is displaced on the table by `amount` metres in a drawn direction when the hand comes near to it,
    once in an episode."""

    def begin(self, observation: Any) -> None:
        self.shoved = False
        angle = self.generator.uniform(0, 2 * np.pi)
        self.way = self.amount * np.array([np.cos(angle), np.sin(angle), 0.0])

    def disturb(self, action: np.ndarray) -> np.ndarray:
        world: Any = self.unwrapped
        gap = np.linalg.norm(world.now[:3] - world.now[4:7])
        if not self.shoved and gap < APPROACH:
            self.shoved = self.happened = True
            world.displace_object(self.way)
        return action


METAWORLD_KINDS: Mapping[str, Kind] = {
    "observation-noise": Kind(ObservationNoise, 0.005, 0.0, KINDS["observation-noise"].unit),
    "action-noise": Kind(ActionNoise, 0.3, 0.0, KINDS["action-noise"].unit),
    "arm-bump": Kind(ArmBump, 0.08, 0.0, "metres by which the hand is pushed"),
    "late-objects": Kind(LateObjects, 5.0, 0.0, "steps by which the observed objects are late"),
}
"""What can go wrong in every MetaWorld task; the first two have other usual amounts than elsewhere."""

OBJECT_KINDS: Mapping[str, Kind] = {
    "object-shove": Kind(ObjectShove, 0.05, 0.0, "metres by which the approached object is displaced"),
}
"""What can go wrong where the first object lies loose on the table."""
