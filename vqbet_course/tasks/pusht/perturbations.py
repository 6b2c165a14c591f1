"""Perturbations of PushT's block."""

from typing import Any

import numpy as np

from vqbet_course.tasks.perturbations import Kind, Perturbation
from vqbet_course.tasks.pusht.geometry import SIZE

SHOVE_PX = 60.0
"""How far a shove displaces the block, in pixels."""

RIM_PX = 100.0
"""A shove that would bring the block's origin nearer to a wall than this goes the other way."""


class Shove(Perturbation):
    """The block is displaced by SHOVE_PX, in a direction drawn by the episode, before step number `amount`."""

    def begin(self, observation: Any) -> None:
        self.world: Any = self.unwrapped

    def disturb(self, action: np.ndarray) -> np.ndarray:
        if self.steps == int(self.amount):
            self.happened, world = True, self.world
            angle, here = self.generator.uniform(0, 2 * np.pi), np.array(world.block.position)
            shove = SHOVE_PX * np.array([np.cos(angle), np.sin(angle)])
            outward = np.abs(here + shove - SIZE / 2) > SIZE / 2 - RIM_PX
            world.block.position = tuple(here + np.where(outward, np.abs(shove) * np.sign(SIZE / 2 - here), shove))
            world.space.reindex_shapes_for_body(world.block)
        return action


class Friction(Perturbation):
    """Another friction coefficient of pusher and block; gym-pusht's is 0."""

    def begin(self, observation: Any) -> None:
        world: Any = self.unwrapped
        for shape in [*world.agent.shapes, *world.block.shapes]:
            shape.friction = self.amount

    def disturb(self, action: np.ndarray) -> np.ndarray:
        self.happened = True
        return action


PUSHT_KINDS = {
    "shove": Kind(Shove, 60.0, 0.0, f"the step before which the block is displaced by {SHOVE_PX:g} px"),
    "friction": Kind(Friction, 0.5, 0.0, "friction coefficient of pusher and block"),
}
"""What can go wrong on PushT, beside what can everywhere."""
