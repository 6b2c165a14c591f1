"""The geometry of PushT: the T's outline, its eight keypoints, and the mirror of the scene. Numpy only.

A state is (5,): pusher x, y in pixels, block x, y in pixels, block angle in radians, in a square of 512 x 512
pixels. A block pose is the last three. The T in its own frame, the keypoints numbered as in gym-pusht:

    0───────────1      (-60, 0) ─────────── (60, 0)
    │           │
    3───4───5───2      (-60, 30) ... (60, 30)
        │   │
        7───6          (-15, 120) ── (15, 120)
"""

from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput

SIZE = 512
"""Side of the square in pixels."""

GOAL_POSE = np.array([256.0, 256.0, np.pi / 4])
"""The block pose to reach: x, y in pixels, angle in radians."""

PUSHER_RADIUS = 15.0
"""Radius of the round pusher in pixels."""

KEYPOINTS = np.array(
    [[-60, 0], [60, 0], [60, 30], [-60, 30], [-15, 30], [15, 30], [15, 120], [-15, 120]], dtype=np.float64
)
"""The corners of the T's two rectangles, (8, 2) pixels in the block's frame."""

AROUND = [0, 1, 2, 5, 6, 7, 4, 3]
"""The order in which the keypoints go once round the T."""

OUTLINE = KEYPOINTS[AROUND]
"""The T's outline walked once round, (8, 2) pixels in the block's frame."""

MIRROR_KEYPOINTS = np.array([1, 0, 3, 2, 5, 4, 7, 6])
"""Mirroring keypoints = reflecting each point, then `points[MIRROR_KEYPOINTS]`."""


def _checked(array: np.ndarray, columns: int, what: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[1] != columns:
        raise BadInput(f"{what} must have shape (N, {columns}), not {array.shape}: pass one row per frame")
    return array


def to_world(points: np.ndarray, block_pose: np.ndarray) -> np.ndarray:
    """Points (P, 2) of the block's frame -> (N, P, 2) in the world, for block poses (N, 3); all in pixels."""
    poses = _checked(block_pose, 3, "block_pose")
    cos, sin = np.cos(poses[:, 2:]), np.sin(poses[:, 2:])
    x = points[:, 0] * cos - points[:, 1] * sin + poses[:, :1]
    y = points[:, 0] * sin + points[:, 1] * cos + poses[:, 1:2]
    return np.stack([x, y], axis=-1)


def block_keypoints(block_pose: np.ndarray) -> np.ndarray:
    """The T's keypoints as gym-pusht observes them (`environment_state`): poses (N, 3) -> (N, 16) pixels.

    Each row is x0, y0, x1, y1, ... Raises `BadInput` for another shape.
    """
    return to_world(KEYPOINTS, block_pose).reshape(-1, 16)


def block_pose(keypoints: np.ndarray) -> np.ndarray:
    """The way back from `block_keypoints`: (N, 16) pixels -> poses (N, 3), angles in -pi..pi. Raises `BadInput`."""
    points = _checked(keypoints, 16, "keypoints").reshape(-1, 8, 2).astype(np.float64)
    bar = points[:, 1] - points[:, 0]
    return np.column_stack([points[:, :2].mean(axis=1), np.arctan2(bar[:, 1], bar[:, 0])])


def place(world: Any, pusher: np.ndarray, pose: np.ndarray) -> None:
    """Put pusher (2,) and block (pose (3,)) of a gym-pusht environment exactly there, at rest. Its own
    `reset_to_state` turns the block after it has put it down, and lets time pass."""
    world.agent.position, world.agent.velocity = tuple(map(float, pusher)), (0, 0)
    world.block.angle, world.block.angular_velocity = float(pose[2]), 0.0
    world.block.position, world.block.velocity = tuple(map(float, pose[:2])), (0, 0)
    for body in (world.agent, world.block):
        world.space.reindex_shapes_for_body(body)


def to_goal(points: np.ndarray, block_pose: np.ndarray) -> np.ndarray:
    """Points (N, 2) of a world turned and shifted so that a block at the pose (3,) comes to lie on the goal; pixels."""
    angle = GOAL_POSE[2] - block_pose[2]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (_checked(points, 2, "points") - block_pose[:2]) @ turn.T + GOAL_POSE[:2]


def mirror_points(points: np.ndarray) -> np.ndarray:
    """Reflect points (N, 2) across the line x + y = 512, which leaves the goal where it is; pixels.

    Raises `BadInput` for another shape.
    """
    return SIZE - _checked(points, 2, "points")[:, ::-1]


def mirror_state(states: np.ndarray) -> np.ndarray:
    """The mirror image of states (N, 5); angles come out in [0, 2 pi). Raises `BadInput` for another shape.

    The T is its own mirror image, so the mirrored scene is a PushT scene too: angle -> pi / 2 - angle.
    """
    states = _checked(states, 5, "states")
    angle = (np.pi / 2 - states[:, 4:]) % (2 * np.pi)
    return np.concatenate([mirror_points(states[:, :2]), mirror_points(states[:, 2:4]), angle], axis=1)


def mirror_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """The mirror image of keypoint rows (N, 16): reflect each point, then renumber. Raises `BadInput`."""
    points = _checked(keypoints, 16, "keypoints").reshape(-1, 2)
    return mirror_points(points).reshape(-1, 8, 2)[:, MIRROR_KEYPOINTS].reshape(-1, 16)
