"""More demonstrations out of the same ones: what the geometry of PushT gives for free. Numpy only.

A demonstration shows its own goal once, at its end, and its last careful pushes are few. But every push brings the T
to *some* pose. Turn and shift the scene so that this pose becomes the goal, and it is a demonstration of a last push
(hindsight, as Andrychowicz et al. 2017 relabel goals; here the world is moved, because PushT's goal stands still).
"""

from dataclasses import replace

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Demos, with_mirror_images
from vqbet_course.tasks.pusht import geometry as pusht
from vqbet_course.tasks.pusht.contract import PUSHT

KEYPOINTS, PUSHER = PUSHT.observation

EVERY = 15
"""Frames from one relabelled moment of an episode to the next."""

BEFORE = 40
"""Frames kept before a relabelled moment; after it come those that the last chunk needs, decided at the moment."""

MOVING, MOVED = 2.0, 15.0
"""How far, in pixels, the T must move around the moment, and must have moved in the frames before it."""


def augment_pusht(demos: Demos, chunk_size: int = 8) -> Demos:
    """The demonstrations, their hindsight segments, and the mirror images of both. Raises `BadInput` as they do."""
    return mirror_pusht(hindsight_pusht(demos, chunk_size))


def mirror_pusht(demos: Demos) -> Demos:
    """The demonstrations, then their mirror images across x + y = 512, which leaves PushT's goal where it is.

    Raises `BadInput` for anything but PushT's keypoints."""
    check_keypoints(demos, "cannot be mirrored")
    return with_mirror_images(demos, (1, 1), pusht.SIZE, {KEYPOINTS: pusht.MIRROR_KEYPOINTS})


def check_keypoints(demos: Demos, so: str) -> None:
    """Raise BadInput unless the demonstrations are PushT's keypoints, at whatever rate."""
    if replace(demos.contract, fps=PUSHT.fps) != PUSHT:
        raise BadInput(f"{demos.source}: these are not PushT's keypoints, so they {so}")


def hindsight_pusht(demos: Demos, chunk_size: int = 8) -> Demos:
    """The demonstrations, then short segments of them in which a push ends at the goal by having the scene moved.

    Chunks of `chunk_size` actions can be learned up to the moment when the T arrives. Segments that would leave the
    board are cut; where too little remains before the moment, left out. Raises `BadInput` for anything but PushT's
    keypoints.
    """
    check_keypoints(demos, "have no scene that can be moved")
    poses = pusht.block_pose(demos.observation[KEYPOINTS])
    segments = [
        _moved(demos, poses[moment], first, moment + chunk_size)
        for start, end in zip(demos.episode_starts, demos.episode_ends, strict=True)
        for first, moment in moments(poses, start, end, chunk_size)
    ]
    kept = [s for s in segments if len(s[PUSHER]) >= chunk_size + EVERY]
    ends = demos.episode_ends[-1] + np.cumsum([len(s[PUSHER]) for s in kept], dtype=np.int64)
    joined = {
        name: np.concatenate([values, *(s[name] for s in kept)])
        for name, values in (demos.observation | {"action": demos.action}).items()
    }
    return replace(
        demos, action=joined.pop("action"), observation=joined, episode_ends=np.concatenate([demos.episode_ends, ends])
    )


def moments(poses: np.ndarray, start: int, end: int, chunk_size: int) -> list[tuple[int, int]]:
    """Frames of an episode at which the T is being pushed, each with the frame where its segment begins."""
    found = []
    for moment in range(start + 10, end - max(2, chunk_size) + 1, EVERY):
        first = max(start, moment - BEFORE)
        if _way(poses[moment - 1], poses[moment + 1]) >= MOVING and _way(poses[first], poses[moment]) >= MOVED:
            found.append((first, moment))
    return found


def _way(before: np.ndarray, after: np.ndarray) -> float:
    """How far the T went from one pose (3,) to another, in pixels; turning counts at 60 px from its origin."""
    turned = np.angle(np.exp(1j * (after[2] - before[2])))
    return float(np.hypot(*(after - before)[:2]) + 60 * abs(turned))


def _moved(demos: Demos, pose: np.ndarray, first: int, last: int) -> dict[str, np.ndarray]:
    """Frames first..last-1 in a world moved so that `pose` becomes the goal, from where all of it is on the board."""

    def move(points: np.ndarray) -> np.ndarray:
        moved = pusht.to_goal(points[first:last].reshape(-1, 2), pose)
        return moved.reshape(last - first, -1).astype(np.float32)

    segment = {name: move(values) for name, values in (demos.observation | {"action": demos.action}).items()}
    everything = np.concatenate(list(segment.values()), axis=1)
    off_board = np.flatnonzero(((everything < 0) | (everything > pusht.SIZE)).any(axis=1))
    begin = off_board[-1] + 1 if len(off_board) else 0
    return {name: values[begin:] for name, values in segment.items()}
