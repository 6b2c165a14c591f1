"""Where the hands of the two arms are, and the joint angles that bring them elsewhere.

The hand is the point between the finger tips that holds an object. The last three axes of an arm meet in its wrist, so
that the inverse kinematics has a closed form: waist, shoulder and elbow place the wrist, the others turn the hand.
Positions are in metres, in the frame of the table (z up); angles in radians.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

SHOULDER_HEIGHT = 0.12705
UPPER = np.array([0.05955, 0.3])  # from shoulder to elbow, forward and up, when the joint is at 0
FOREARM = 0.3  # from elbow to wrist
HAND = 0.069744 + 0.137  # from wrist to the point that holds an object, 1.7 cm behind the finger tips
UPPER_LENGTH, UPPER_RISE = float(np.hypot(*UPPER)), float(np.arctan2(UPPER[1], UPPER[0]))
REACH = UPPER_LENGTH + FOREARM - 0.005

BASES = np.array([[-0.469, 0.5], [0.469, 0.5]])
"""Where the left and the right arm stand, (2, 2) metres; each looks at the other."""

FORWARD = np.array([1.0, -1.0])
"""The direction along x in which the left and the right arm look."""


LEFT, RIGHT = 0, 1


@dataclass(frozen=True)
class Hand:
    """Where a hand is or is to be: its position (3,) in metres; how far it points down (pitch), away from where its arm
    looks (yaw), and is turned about its own axis (roll), in radians."""

    position: Float
    pitch: float
    yaw: float
    roll: float = 0.0


def hand_positions(joints: Float) -> Float:
    """Where both hands are: joints (..., 14) -> (..., 2, 3) metres."""
    joints = np.asarray(joints, dtype=float)
    return np.stack([hand_position(joints[..., :6], LEFT), hand_position(joints[..., 7:13], RIGHT)], axis=-2)


def hand_position(angles: Float, arm: int, reach: float = HAND) -> Float:
    """Where the point `reach` metres before an arm's wrist is, by default its hand: angles (..., 6) -> (..., 3) metres."""
    waist, shoulder, elbow, roll, wrist = (angles[..., i] for i in range(5))
    forward, drop = reach * np.cos(wrist), reach * np.sin(wrist)
    sideways, up = drop * np.sin(roll), -drop * np.cos(roll)
    forward, up = turned(FOREARM + forward, up, elbow)
    forward, up = turned(UPPER[0] + forward, UPPER[1] + up, shoulder)
    x = FORWARD[arm] * (forward * np.cos(waist) - sideways * np.sin(waist))
    y = FORWARD[arm] * (forward * np.sin(waist) + sideways * np.cos(waist))
    return np.stack([BASES[arm, 0] + x, BASES[arm, 1] + y, SHOULDER_HEIGHT + up], axis=-1)


def turned(forward: Float, up: Float, angle: Float) -> tuple[Float, Float]:
    """A vector of a plane turned down by an angle."""
    return forward * np.cos(angle) + up * np.sin(angle), up * np.cos(angle) - forward * np.sin(angle)


def hand_of(angles: Float, arm: int) -> Hand:
    """The hand of an arm with these joint angles (6,); its roll is that of the wrist."""
    position = hand_position(angles, arm)
    axis = (position - hand_position(angles, arm, 0.0)) / HAND
    return Hand(position, float(-np.arcsin(np.clip(axis[2], -1, 1))), direction(axis, arm), float(angles[5]))


def away_from_base(position: Float, arm: int) -> float:
    """The yaw of a hand at a position (3,) whose arm stays in one upright plane."""
    return direction(position - [*BASES[arm], 0.0], arm)


def direction(way: Float, arm: int) -> float:
    """The angle between a way (3,), seen from above, and the direction in which an arm looks, in radians."""
    return float(np.arctan2(FORWARD[arm] * way[1], FORWARD[arm] * way[0]))


def angles_of(hand: Hand, arm: int) -> Float:
    """The joint angles (6,) of an arm that bring its hand there, elbow up, or as near as it reaches."""
    turn = about_z(hand.yaw) @ about_y(hand.pitch) @ about_x(hand.roll)
    wrist = (hand.position[:2] - BASES[arm]) * FORWARD[arm] - HAND * turn[:2, 0]
    up = hand.position[2] - SHOULDER_HEIGHT - HAND * turn[2, 0]
    waist, (shoulder, elbow) = np.arctan2(wrist[1], wrist[0]), bend(float(np.hypot(*wrist)), up)
    left = about_y(shoulder + elbow).T @ about_z(waist).T @ turn
    return np.array([waist, shoulder, elbow, *wrist_angles(left)])


def bend(forward: float, up: float) -> tuple[float, float]:
    """The angles of shoulder and elbow that bring the wrist there, seen from the shoulder, in metres."""
    far = float(np.hypot(forward, up))
    shorter = min(1.0, REACH / far)
    forward, up, far = forward * shorter, up * shorter, far * shorter
    inner = np.arccos(np.clip((UPPER_LENGTH**2 + far**2 - FOREARM**2) / (2 * UPPER_LENGTH * far), -1, 1))
    rise = np.arctan2(up, forward) + inner
    fall = np.arctan2(UPPER_LENGTH * np.sin(rise) - up, forward - UPPER_LENGTH * np.cos(rise))
    return float(UPPER_RISE - rise), float(fall - UPPER_RISE + rise)


def wrist_angles(turn: Float) -> Float:
    """A rotation (3, 3) as turns about x, y and again x, (3,), of which the first is at most a quarter turn."""
    roll, wrist = np.arctan2(turn[1, 0], -turn[2, 0]), np.arccos(np.clip(turn[0, 0], -1, 1))
    if abs(roll) > np.pi / 2:
        roll, wrist = roll - np.copysign(np.pi, roll), -wrist
    if abs(wrist) < 1e-6:
        roll = 0.0
    rest = about_y(wrist).T @ about_x(roll).T @ turn
    return np.array([roll, wrist, np.arctan2(rest[2, 1], rest[1, 1])])


def about_x(angle: float) -> Float:
    """The rotation (3, 3) about the x axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def about_y(angle: float) -> Float:
    """The rotation (3, 3) about the y axis, which turns x down."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def about_z(angle: float) -> Float:
    """The rotation (3, 3) about the z axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
