"""What a trace of a MetaWorld task tells: whether the hand came to the object, moved it, lost it, and why it failed.

A trace is what was so at each step, (T, 21): objects and target (17,), hand (3,), gripper (1,); metres.
"""

from typing import Any

import numpy as np

from vqbet_course.core.specs import TaskContract
from vqbet_course.tasks.metaworld.contract import FIRST, HAND, TARGET

NEAR = 0.08
"""Metres between hand and object: nearer, the hand is at the object."""

MOVED = 0.02
"""Metres by which an object that is farther from where it was has been moved."""

LIFTED, FALLEN = 0.04, 0.02
"""Metres above where it began: higher, an object was lifted; then lower, it has fallen."""

AWAY = 0.05
"""Metres by which an object that ends farther from the target than it began was pushed away."""

STANDING, STANDING_STEPS = 0.01, 80
"""A hand that stays within so many metres for the last so many steps is stuck."""


def hand_gaps(truth: np.ndarray) -> np.ndarray:
    """Metres between hand and first object at each step of a trace: (T,)."""
    return np.linalg.norm(truth[:, HAND] - truth[:, FIRST], axis=1)


def at_object(truth: np.ndarray) -> bool:
    """Whether the hand comes to the first object at any step of a trace."""
    return bool(hand_gaps(truth).min() < NEAR)


def object_moved(truth: np.ndarray) -> bool:
    """Whether the first object is moved at any step of a trace."""
    return bool(np.linalg.norm(truth[:, FIRST] - truth[0, FIRST], axis=1).max() > MOVED)


# --- why an episode failed ------------------------------------------------------------------------------------------


def hand_never_reached(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that the hand never came to the object."""
    truth = np.array(episode.truth)
    if at_object(truth):
        return None
    return f"the hand came no nearer to the object than {100 * hand_gaps(truth).min():.0f} cm"


def object_dropped(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that the object was lifted and lies low at the end, away from the hand."""
    truth = np.array(episode.truth)
    height = truth[:, FIRST][:, 2] - truth[0, FIRST][2]
    if height.max() < LIFTED or height[-1] > FALLEN or hand_gaps(truth)[-1] < NEAR:
        return None
    return f"the object was lifted by {100 * height.max():.0f} cm and has fallen"


def object_pushed_away(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that the object ends farther from the target than it began."""
    truth = np.array(episode.truth)
    distance = np.linalg.norm(truth[:, FIRST] - truth[:, TARGET], axis=1)
    if distance[-1] < distance[0] + AWAY:
        return None
    return f"the object ends {100 * (distance[-1] - distance[0]):.0f} cm farther from the target than it began"


def object_not_moved(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that the hand was at the object and did not move it."""
    truth = np.array(episode.truth)
    if object_moved(truth):
        return None
    return f"the hand was at the object in {int((hand_gaps(truth) < NEAR).sum())} steps and did not move it"


def hand_stands_still(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that the hand hardly moved at the end."""
    hand = np.array(episode.truth)[-STANDING_STEPS:, HAND]
    moved = float(np.ptp(hand, axis=0).max())
    if len(hand) < STANDING_STEPS or moved > STANDING:
        return None
    return f"the hand stayed within {1000 * moved:.0f} mm in the last {STANDING_STEPS} steps"


FAILURE_RULES = {
    "never reached": hand_never_reached,
    "dropped": object_dropped,
    "pushed away": object_pushed_away,
    "not moved": object_not_moved,
    "stuck": hand_stands_still,
}
"""Tried in this order: an episode that ends stuck after the object fell is labelled by the fall."""
