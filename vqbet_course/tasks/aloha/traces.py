"""What a trace of an ALOHA task tells: which objects were lifted, where the hands met, and why it failed.

A trace is what was so at each step, (T, 7 n + 14): position and quaternion of n objects, then the 14 joints.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from vqbet_course.core.specs import TaskContract
from vqbet_course.tasks.aloha.contract import AlohaScene
from vqbet_course.tasks.aloha.kinematics import LEFT, hand_positions

AIR = 0.06
"""Metres: an object whose centre is higher than this is in the air; at the start, objects fall from 0.05."""

NEAR = 0.045
"""Metres between a hand and the centre of an object that it is at."""

AWAY = 0.05
"""Metres by which an object that was never in the air was pushed away."""

MIDDLE = 0.0
"""Where, along x in metres, the left half of the table ends."""

HIGH = 0.22
"""Metres above the table above which objects meet high."""

STANDING, STANDING_STEPS = 0.02, 100
"""Hands that stay within so many metres for the last so many steps are stuck."""

HALF = 0.06
"""Half the length of peg and socket in metres."""

TRANSFER_WAYS = tuple(f"{height}, {side}" for height, side in product(("low", "high"), ("left", "right")))
"""Where the cube is handed over: at which height, and in which half of the table."""

INSERTION_WAYS = tuple(f"{first} first, {height}" for first, height in product(("peg", "socket"), ("low", "high")))
"""Which object is lifted first, and at which height they meet."""


def objects_of(truth: np.ndarray) -> np.ndarray:
    """The objects' positions (T, n, 3) of a trace."""
    truth = np.asarray(truth)
    return truth[:, :-14].reshape(len(truth), -1, 7)[:, :, :3]


def hands_of(truth: np.ndarray) -> np.ndarray:
    """The hands' positions (T, 2, 3) of a trace."""
    return hand_positions(np.asarray(truth)[:, -14:])


def in_the_air(truth: np.ndarray, number: int) -> np.ndarray:
    """At which steps of a trace an object is in the air, (T,)."""
    return np.asarray(objects_of(truth)[:, number, 2] > AIR)


def meets_left_hand(truth: np.ndarray) -> np.ndarray:
    """At which steps the left hand is at the cube, which is in the air, (T,)."""
    away = np.linalg.norm(hands_of(truth)[:, LEFT] - objects_of(truth)[:, 0], axis=1)
    return np.asarray((away < NEAR) & in_the_air(truth, 0))


def way_of_transfer(truth: np.ndarray) -> str | None:
    """Where the cube was handed over; None where the left hand never came to it in the air."""
    steps = np.flatnonzero(meets_left_hand(truth))
    if not len(steps):
        return None
    x, _, z = objects_of(truth)[steps[0], 0]
    return f"{'high' if z > HIGH else 'low'}, {'right' if x > MIDDLE else 'left'}"


def way_of_insertion(truth: np.ndarray) -> str | None:
    """Which object was lifted first, and where they met; None where not both were lifted."""
    lifted = [np.flatnonzero(in_the_air(truth, number)) for number in (0, 1)]
    if not all(map(len, lifted)):
        return None
    height = "high" if objects_of(truth)[-1, :, 2].mean() > HIGH else "low"
    return f"{'peg' if lifted[0][0] <= lifted[1][0] else 'socket'} first, {height}"


def object_lifted(number: int) -> Callable[[np.ndarray], bool]:
    """Whether an object is in the air at any step of a trace."""
    return lambda truth: bool(in_the_air(truth, number).any())


def object_reached(scene: AlohaScene, number: int) -> Callable[[np.ndarray], bool]:
    """Whether its hand comes to an object at any step of a trace."""
    return lambda truth: nearest_approach(scene, truth, number) < NEAR


def nearest_approach(scene: AlohaScene, truth: np.ndarray, number: int) -> float:
    """The least distance in metres between an object and the hand that is to pick it up."""
    away = hands_of(truth)[:, scene.arms[number]] - objects_of(truth)[:, number]
    return float(np.linalg.norm(away, axis=1).min())


def milestones_of(scene: AlohaScene) -> Mapping[str, Callable[[np.ndarray], bool]]:
    """{name: whether a trace reaches it} of a scene."""
    found: dict[str, Callable[[np.ndarray], bool]] = {}
    for number, name in enumerate(scene.objects):
        found[f"{name} reached"] = object_reached(scene, number)
        found[f"{name} lifted"] = object_lifted(number)
    if len(scene.objects) == 1:
        return found | {"left hand at the cube in the air": lambda truth: bool(meets_left_hand(truth).any())}
    return found | {"both in the air": lambda truth: bool((in_the_air(truth, 0) & in_the_air(truth, 1)).any())}


# --- why an episode failed ------------------------------------------------------------------------------------------


def diverged(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that the simulation broke down: the episode ended early without success."""
    steps = len(episode.truth)
    return f"the simulation broke down after {steps} steps" if steps < task.horizon else None


def hands_stand_still(episode: Any, task: TaskContract, known: Any) -> str | None:
    """Evidence that both hands hardly moved at the end."""
    hands = hands_of(np.array(episode.truth)[-STANDING_STEPS:])
    moved = float(np.ptp(hands, axis=0).max())
    if len(hands) < STANDING_STEPS or moved > STANDING:
        return None
    return f"the hands stayed within {100 * moved:.1f} cm in the last {STANDING_STEPS} steps"


def failure_rules_of(scene: AlohaScene) -> Mapping[str, Callable[..., str | None]]:
    """{label: rule} of a scene, in the order in which they are tried."""

    def never_reached(episode: Any, task: TaskContract, known: Any) -> str | None:
        """Evidence that a hand never came to its object."""
        truth = np.array(episode.truth)
        for number, name in enumerate(scene.objects):
            if (away := nearest_approach(scene, truth, number)) > NEAR:
                return f"the hand came as near to the {name} as {100 * away:.1f} cm"
        return None

    def pushed_away(episode: Any, task: TaskContract, known: Any) -> str | None:
        """Evidence that an object that was never in the air was pushed along the table."""
        truth = np.array(episode.truth)
        for number, name in enumerate(scene.objects):
            path = objects_of(truth)[:, number, :2]
            moved = float(np.linalg.norm(path[-1] - path[0]))
            if not in_the_air(truth, number).any() and moved > AWAY:
                return f"the {name} was pushed {100 * moved:.0f} cm along the table"
        return None

    def dropped(episode: Any, task: TaskContract, known: Any) -> str | None:
        """Evidence that an object was in the air and is not any more at the end."""
        truth = np.array(episode.truth)
        for number, name in enumerate(scene.objects):
            up = np.flatnonzero(in_the_air(truth, number)[10:])  # at the start objects fall onto the table
            if len(up) and not in_the_air(truth, number)[-1]:
                return f"the {name} was last in the air at step {up[-1] + 10}"
        return None

    def not_lifted(episode: Any, task: TaskContract, known: Any) -> str | None:
        """Evidence that an object that a hand came to stayed on the table."""
        for number, name in enumerate(scene.objects):
            if not in_the_air(np.array(episode.truth), number)[10:].any():
                return f"the hand came to the {name}, which stayed on the table"
        return None

    def did_not_meet(episode: Any, task: TaskContract, known: Any) -> str | None:
        """Evidence that all was in the air at the end, and did not meet."""
        truth = np.array(episode.truth)
        if not all(in_the_air(truth, number)[-1] for number in range(len(scene.objects))):
            return None
        if len(scene.objects) == 1:
            return "the cube is in the air at the end, and the left hand does not hold it"
        offset = objects_of(truth)[-1, 0] - objects_of(truth)[-1, 1]
        return f"peg and socket are in the air, off by {100 * np.hypot(*offset[1:]):.1f} cm across their axis"

    return {
        "diverged": diverged,
        "never reached": never_reached,
        "pushed away": pushed_away,
        "dropped": dropped,
        "not lifted": not_lifted,
        "stuck": hands_stand_still,
        "did not meet": did_not_meet,
    }
