"""The navigation task as a Gymnasium environment."""

from typing import Any

import gymnasium as gym
import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field, TaskContract

INSTRUCTION = "Get to the goal round the disc"
"""The instruction of demonstrations, as LeRobot keeps one."""

RADIUS = 0.25
"""Radius of a disc in metres."""

GOAL_RADIUS = 0.15
"""The goal is reached this near to it, in metres."""

MAX_STEP = 0.05
"""The most that the robot moves in one step, in metres."""

NOISE = 0.003
"""Standard deviation in metres of the slip added to every step."""


class NavigationEnv(gym.Env[np.ndarray, np.ndarray]):
    """The toy as a Gymnasium environment.

    Observation: position (2,) float32, metres. Action: displacement (2,) float32, metres, shortened to MAX_STEP.
    An episode starts at (0, 0) and ends on a disc (a crash), at the goal (reward 1), or after `max_steps`.
    `info` holds `crashed` and `is_success`. Raises `BadInput` without discs or for an action that is not (2,).
    """

    def __init__(self, n_discs: int = 1):
        if n_discs < 1:
            raise BadInput(f"n_discs is {n_discs}: the navigation task needs at least 1")
        self.discs = np.array([[i + 0.5, 0.0] for i in range(n_discs)])
        self.goal = np.array([float(n_discs), 0.0])
        self.max_steps = 50 * n_discs
        self.contract = TaskContract(
            robot=f"a point among {n_discs} discs",
            data=Contract({"observation.state": Field(2, "m")}, Field(2, "m"), 10.0),
            action_bounds=(-MAX_STEP, MAX_STEP),
            timing_budget_ms=100.0,
            horizon=self.max_steps,
            resets="always at (0, 0); the environment seed draws the slips",
            success="the goal is reached without touching a disc",
        )
        reach = 2 * self.max_steps * MAX_STEP
        self.observation_space = gym.spaces.Box(-reach, reach, (2,), np.float32)
        self.action_space = gym.spaces.Box(-MAX_STEP, MAX_STEP, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode; `seed` makes its slips repeat."""
        super().reset(seed=seed)
        self.position: np.ndarray = np.zeros(2)
        self.steps = 0
        return self.position.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, bool]]:
        """Move by `action` (2,) metres and a little slip."""
        move = np.asarray(action, dtype=np.float64)
        if move.shape != (2,) or not np.isfinite(move).all():
            raise BadInput(f"action {move} must be two finite numbers: a displacement in metres")
        move = move * min(1.0, MAX_STEP / max(float(np.linalg.norm(move)), 1e-9))
        self.position = self.position + move + NOISE * self.np_random.standard_normal(2)
        self.steps += 1
        crashed = bool((np.linalg.norm(self.discs - self.position, axis=1) < RADIUS).any())
        success = not crashed and bool(np.linalg.norm(self.goal - self.position) < GOAL_RADIUS)
        done = crashed or success
        info = {"crashed": crashed, "is_success": success}
        return self.position.astype(np.float32), float(success), done, self.steps >= self.max_steps, info


def y_beside_disc(path: Any) -> float:
    """The y, in metres, at which a path (T, 2) first gets past the first disc: above 0 on its left; 0 if it never does."""
    return next((float(y) for x, y in path if x > 0.5), 0.0)
