"""PushT's demonstrations in files: its authors' five-number states, recognised and turned into keypoints."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import TASK_INDEX, UNSTATED, Episode, Source
from vqbet_course.tasks.pusht.contract import INSTRUCTION, NAMES, PUSHT
from vqbet_course.tasks.pusht.geometry import SIZE, block_keypoints, block_pose

KEYPOINTS, PUSHER = PUSHT.observation

EPISODES = 10
"""Episodes that are looked at to recognise a source."""

MARGIN = 16.0
"""Pixels that a position may lie outside of the board."""

TURN = 2 * np.pi + 1e-5


def columns_of_source(source: Source, *names: str) -> list[np.ndarray]:
    """The features of the first EPISODES episodes, (N, size) each, without rows that are not finite."""
    episodes = [[episode.numbers[name] for name in names] for episode in islice(source.episodes(), EPISODES)]
    columns = [np.concatenate(parts).astype(np.float64) for parts in zip(*episodes, strict=True)]
    finite = np.isfinite(np.concatenate(columns, axis=1)).all(1)
    return [values[finite] for values in columns]


def on_board(positions: np.ndarray) -> bool:
    """Whether positions (N, P) are pixels spread over the board: in 0..512, and too large for metres or angles."""
    return (
        len(positions) > 0
        and positions.min() >= -MARGIN
        and positions.max() <= SIZE + MARGIN
        and bool((positions.max(0) > TURN).all())
        and float(np.ptp(positions)) >= SIZE / 8
    )


def has_states(source: Source) -> bool:
    """Whether a source has five state numbers and two of action, of no other unit than px; PushT's are like that."""
    features = source.contract.features()
    state, action = features.get(PUSHER, features["action"]), features["action"]
    sizes, units = (state.size, action.size), {state.unit, action.unit}
    return sizes == (5, 2) and units <= {UNSTATED, "px"} and KEYPOINTS not in features


def shows_states(source: Source) -> bool:
    """Whether the five numbers are four positions spread over the board and an angle in radians."""
    state, action = columns_of_source(source, PUSHER, "action")
    return on_board(np.hstack([state[:, :4], action])) and bool((np.abs(state[:, 4]) <= TURN).all())


def shows_keypoints(source: Source) -> bool:
    """Whether numbers of PushT's names and sizes, whose units are unstated, are the corners of its T."""
    contract = source.contract
    sizes = {name: field.size for name, field in contract.features().items()}
    if any(
        sizes.get(name) != field.size or source.units.get(name, UNSTATED) != UNSTATED
        for name, field in PUSHT.features().items()
    ):
        return False
    keypoints, pusher, action = columns_of_source(source, KEYPOINTS, PUSHER, "action")
    if not on_board(np.hstack([pusher, action])):
        return False
    return bool((np.abs(block_keypoints(block_pose(keypoints)) - keypoints) < 1).all())


def with_keypoints(source: Source) -> Source:
    """A source of five-number states as PushT's keypoints, pusher and action, in pixels."""

    def read(start: int) -> Iterator[Episode]:
        for episode in source.read(start):
            yield replace(episode, numbers=keypoint_numbers(episode.numbers))

    return replace(
        source,
        read=read,
        fps=source.fps or PUSHT.fps,
        units=PUSHT.units(),
        names=NAMES,
        task=INSTRUCTION if source.task == UNSTATED else source.task,
    )


def keypoint_numbers(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PushT's features from the state (T, 5), and under `source.` everything that the source observed."""
    state = found[PUSHER].astype(np.float64)
    with np.errstate(invalid="ignore"):  # what is not finite is reported with its episode and row
        keypoints = block_keypoints(state[:, 2:])
    kept = {
        name if name == TASK_INDEX else f"source.{name.removeprefix('observation.')}": values
        for name, values in found.items()
        if name != "action"
    }
    return {
        KEYPOINTS: keypoints.astype(np.float32),
        PUSHER: state[:, :2].astype(np.float32),
        "action": found["action"],
        **kept,
    }


def check_units(episode: Episode) -> None:
    """Raise BadInput for numbers that are plainly not in pixels and radians."""
    action = episode.numbers["action"]
    if np.abs(action).max() <= 1:
        raise BadInput(
            f"{episode.place}, row 0: actions lie in -1..1, PushT's are pixels in 0..512; undo the normalisation first"
        )
    angle = np.abs(episode.numbers["source.state"][:, 4]) if "source.state" in episode.numbers else np.zeros(1)
    if (angle > TURN).any():
        row = int(np.argmax(angle > TURN))
        raise BadInput(
            f"{episode.place}, row {row}: the T's angle is {angle[row]:.1f}, more than 2 pi; convert degrees to radians"
        )
