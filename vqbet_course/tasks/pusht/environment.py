"""PushT as a Gymnasium environment, with its contract, and the wrappers that start it and place its goal."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import gym_pusht.envs.pusht
import gymnasium as gym
import numpy as np
import shapely

from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Demos
from vqbet_course.tasks.pusht.contract import PUSHT, PUSHT_TASK
from vqbet_course.tasks.pusht.geometry import AROUND, GOAL_POSE, OUTLINE, SIZE, block_keypoints, block_pose, place

KEYPOINTS, PUSHER = PUSHT.observation

FROM_AROUND = np.argsort(AROUND)
"""The place of each keypoint in the outline."""

BEYOND = 128.0
"""Pixels that a corner of the T may lie outside of the board at most: it is no farther from the T's origin."""


class PushTEnv(gym_pusht.envs.pusht.PushTEnv):
    """gym-pusht's PushT with keypoint observations: a contract, spaces that contain what is observed, frames that can be
    asked for, a coverage without the last bits (gym-pusht adds up two areas in an order that differs from run to run).

    Observation: environment_state (16,) and agent_pos (2,), float64 pixels; action: where to send the pusher, (2,) pixels.
    """

    obs_type: str

    def __init__(self, **options: Any):
        super().__init__(
            **{
                "obs_type": "environment_state_agent_pos",
                "render_mode": "rgb_array",
                "visualization_width": SIZE,
                "visualization_height": SIZE,
            }
            | options
        )
        self.contract = PUSHT_TASK
        low, high = -BEYOND, SIZE + BEYOND
        self.observation_space = gym.spaces.Dict(
            {
                "environment_state": gym.spaces.Box(low, high, (16,), np.float64),
                "agent_pos": gym.spaces.Box(low, high, (2,), np.float64),
            }
        )

    def observe(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The observation and the `info` of this moment."""
        return self.get_obs(), self._get_info()

    def frame(self) -> np.ndarray:
        """What LeRobot's camera sees of this moment, (96, 96, 3) uint8."""
        kept, self.obs_type = self.obs_type, "pixels"
        try:
            return self.get_obs()
        finally:
            self.obs_type = kept

    def render(self) -> np.ndarray:
        """A drawing of this moment, (512, 512, 3) uint8, without the cross at the last action."""
        self._last_action = None
        return super().render()

    def coverage(self) -> float:
        """The share of the goal that the T covers, 0..1."""
        return self._get_coverage()

    def _get_coverage(self) -> float:
        block = shapely.polygons(outline(self.block.position, self.block.angle))
        x, y, angle = self.goal_pose
        goal = goal_polygon(float(x), float(y), float(angle))
        return round(float(shapely.area(shapely.intersection(block, goal)) / shapely.area(goal)), 9)

    @staticmethod
    def get_keypoints(block_shapes: Sequence[Any]) -> np.ndarray:
        """The keypoints (8, 2) of a T at its place, in pixels; gym-pusht's own takes twenty times as long."""
        body = block_shapes[0].body
        return outline(body.position, body.angle)[FROM_AROUND]


def outline(position: tuple[float, float], angle: float) -> np.ndarray:
    """The outline (8, 2) of a T at this position, in pixels, with this angle in radians. To the last bit what gym-pusht
    computes for the keypoints."""
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = OUTLINE.T
    return np.column_stack([x * cos - y * sin, x * sin + y * cos]) + position


@lru_cache(maxsize=64)
def goal_polygon(x: float, y: float, angle: float) -> shapely.Polygon:
    """The T at a goal pose, in pixels and radians."""
    return shapely.polygons(outline((x, y), angle))


def make_pusht() -> PushTEnv:
    """PushT with keypoint observations and its contract; frames are drawn only when asked for."""
    return PushTEnv()


class DemonstratedStart(gym.Wrapper):
    """PushT, starting under environment seed i where demonstration i starts; after the last comes the first again.

    Args: resets, what the contract says of it."""

    def __init__(self, env: gym.Env, demos: Demos, resets: str):
        super().__init__(env)
        first = demos.episode_starts
        self.pushers, self.poses = demos.observation[PUSHER][first], block_pose(demos.observation[KEYPOINTS][first])
        self.contract = replace(env.get_wrapper_attr("contract"), resets=resets)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Start the demonstration of this number."""
        _, info = self.env.reset(seed=seed, options=options)
        world, number = pusht_world(self), (seed or 0) % len(self.poses)
        place(world, self.pushers[number], self.poses[number])
        observation, now = world.observe()
        return observation, info | now


class GoalPose(gym.Wrapper):
    """PushT with its goal at a pose (3,), or, given None, at one that each episode draws from its seed.

    `goal` is the goal of the episode as keypoints, (16,) float32 pixels; `info` has the pose as `goal_pose`."""

    def __init__(self, env: gym.Env, pose: np.ndarray | None):
        super().__init__(env)
        self.pose = pose
        at = "a pose drawn from the environment seed" if pose is None else "x {:g}, y {:g}, {:g} rad".format(*pose)
        contract = env.get_wrapper_attr("contract")
        moved = pose is None or not np.array_equal(pose, GOAL_POSE)
        self.contract = replace(contract, resets=f"{contract.resets}; goal at {at}") if moved else contract

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Start an episode, then place the goal, which gym-pusht puts back at every reset."""
        observation, info = self.env.reset(seed=seed, options=options)
        pose = draw_pose(seed or 0) if self.pose is None else self.pose
        setattr(self.unwrapped, "goal_pose", pose)
        self.goal = block_keypoints(pose[None])[0].astype(np.float32)
        return observation, info | {"goal_pose": np.copy(pose)}


def copied(env: gym.Env) -> PushTEnv:
    """A PushT whose pusher and T lie and move as in `env`; it goes on as `env` would. (The physics cannot be copied by
    Python's `copy`.)"""
    world, other = pusht_world(env), make_pusht()
    other.reset(seed=0)
    other.goal_pose = np.copy(world.goal_pose)
    for name in ("agent", "block"):
        body, twin = getattr(world, name), getattr(other, name)
        twin.angle, twin.position = body.angle, body.position
        twin.angular_velocity, twin.velocity = body.angular_velocity, body.velocity
        other.space.reindex_shapes_for_body(twin)
    return other


def make_changed_pusht(change: Callable[[np.ndarray], np.ndarray]) -> gym.Env:
    """PushT with a robot that moves differently: `change` maps relative actions (1, 2) to those it executes, px."""
    env = make_pusht()

    def changed(action: np.ndarray) -> np.ndarray:
        pusher = np.array(env.agent.position)
        return pusher + np.asarray(change((action - pusher)[None].astype(np.float32)))[0]

    return gym.wrappers.TransformAction(env, changed, env.action_space)


def draw_pose(seed: int) -> np.ndarray:
    """A goal pose (3,) for an episode, all of it on the board; a draw of its own, apart from that of the start."""
    draw = np.random.default_rng((seed, 11))
    return np.array([*draw.uniform(150, 362, 2), draw.uniform(-np.pi, np.pi)])


def parse_pose(asked: str) -> np.ndarray | None:
    """`x,y,angle` -> a pose (3,) in pixels and radians; `random` -> None. Raises BadInput for anything else, or a pose
    whose T would not lie on the board."""
    if asked == "random":
        return None
    try:
        pose = np.array([float(part) for part in asked.split(",")])
    except ValueError:
        pose = np.empty(0)
    if pose.shape != (3,) or not np.isfinite(pose).all():
        raise BadInput(f"--goal-pose {asked}: give x,y,angle in pixels and radians, or random")
    corners = block_keypoints(pose[None])
    if corners.min() < 0 or corners.max() > SIZE:
        raise BadInput(f"--goal-pose {asked}: the T would not lie on the board of {SIZE} x {SIZE} pixels")
    return pose


def pusht_world(env: gym.Env) -> PushTEnv:
    """The PushT at the core of `env`."""
    world = env.unwrapped
    assert isinstance(world, PushTEnv)
    return world
