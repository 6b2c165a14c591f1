"""What a trace of block_push tells: blocks in targets, progress, which behaviour it shows, and why it failed.

A trace is what was so at each step, (T, 6) pixels: the orange block, the blue block, the pusher; x, then y.
"""

from itertools import product
from typing import Any

import numpy as np

from vqbet_course.core.specs import TaskContract
from vqbet_course.tasks.block_push.contract import (
    BLOCK_NAMES,
    BLOCK_RADIUS,
    INSIDE,
    PUSHER_RADIUS,
    SIZE,
    TARGET_NAMES,
    TARGETS,
)

AWAY = 30.0
"""Pixels by which a block that is farther from both targets than at the start was pushed away."""

AT_WALL = BLOCK_RADIUS + 2
"""Pixels: a block whose centre is nearer than this to a wall lies against it."""

STANDING, STANDING_STEPS = 15.0, 40
"""A pusher that stays within so many pixels for the last so many steps is stuck."""

BEHAVIOURS = tuple(f"{block} first, {target}" for block, target in product(BLOCK_NAMES, TARGET_NAMES))
"""The four behaviours: which block goes first, into which target. The other block then goes into the other target."""


def blocks_of(truth: np.ndarray) -> np.ndarray:
    """The blocks' centres (T, 2, 2) of a trace (T, 6)."""
    return np.asarray(truth)[:, :4].reshape(-1, 2, 2)


def distances(blocks: np.ndarray) -> np.ndarray:
    """Pixels between each block's and each target's centre: blocks (..., 2, 2) -> (..., block, target)."""
    return np.linalg.norm(blocks[..., :, None, :] - TARGETS, axis=-1)


def lies_in_target(blocks: np.ndarray) -> np.ndarray:
    """Whether each block lies in a target: (..., 2, 2) -> (..., block). A target is too small for two."""
    return np.any(distances(blocks) < INSIDE, axis=-1)


def share_achieved(blocks: np.ndarray, start: np.ndarray) -> float:
    """How much of their ways the blocks (2, 2) have come, 0..1, a mean over both, by the assignment to targets that is
    the better one; `start`: the distances (block, target) at the start."""
    left = np.maximum(distances(blocks) - INSIDE, 0) / np.maximum(start - INSIDE, 1e-9)
    come = 1 - np.minimum(left, 1)
    return float(max(come[0, 0] + come[1, 1], come[0, 1] + come[1, 0]) / 2)


def first_delivery(truth: np.ndarray) -> str | None:
    """The behaviour that a trace (T, 6) shows: the block that is first in a target, and which; None where none is."""
    inside = distances(blocks_of(truth)) < INSIDE
    steps = np.flatnonzero(inside.any((1, 2)))
    if not len(steps):
        return None
    block, target = np.argwhere(inside[steps[0]])[0]
    return f"{BLOCK_NAMES[block]} first, {TARGET_NAMES[target]}"


def one_block_delivered(truth: np.ndarray) -> bool:
    """Whether some block is in a target at any step of a trace (T, 6)."""
    return first_delivery(truth) is not None


# --- why an episode failed ------------------------------------------------------------------------------------------


def never_reached(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that the pusher never touched a block."""
    truth = np.array(episode.truth)
    if None in episode.contact or any(episode.contact):
        return None
    nearest = np.linalg.norm(blocks_of(truth) - truth[:, None, 4:], axis=-1).min() - PUSHER_RADIUS - BLOCK_RADIUS
    return f"no block was touched; the pusher came as near as {nearest:.0f} px"


def pushed_away(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that a block that is in no target ends against a wall, or farther from both targets than it began."""
    blocks = blocks_of(np.array(episode.truth))
    away = distances(blocks)
    for number, name in enumerate(BLOCK_NAMES):
        if away[-1, number].min() < INSIDE:
            continue
        if min(blocks[-1, number].min(), SIZE - blocks[-1, number].max()) < AT_WALL:
            return f"the {name} block ends against a wall"
        farther = (away[-1, number] - away[0, number]).min()
        if farther > AWAY:
            return f"the {name} block ends {farther:.0f} px farther from both targets than it began"
    return None


def stands_still(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that the pusher hardly moved at the end."""
    pusher = np.array(episode.truth)[-STANDING_STEPS:, 4:]
    moved = float(np.ptp(pusher, axis=0).max())
    if len(pusher) < STANDING_STEPS or moved > STANDING:
        return None
    return f"the pusher stayed within {moved:.0f} px in the last {STANDING_STEPS} steps"


def one_block_only(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that one block was delivered and the other was not in the time that was left."""
    inside = lies_in_target(blocks_of(np.array(episode.truth)))  # (T, blocks)
    if inside[-1].sum() != 1:
        return None
    block = int(np.argmax(inside[-1]))
    outside = np.flatnonzero(~inside[:, block])
    since = int(outside[-1]) + 1 if len(outside) else 0
    return f"the {BLOCK_NAMES[block]} block is in a target since step {since}, the other is in none at the end"


FAILURE_RULES = {
    "never reached": never_reached,
    "pushed away": pushed_away,
    "stuck": stands_still,
    "one block only": one_block_only,
}
"""Tried in this order: an episode that ends stuck, with a block against the wall, is labelled by the wall."""
