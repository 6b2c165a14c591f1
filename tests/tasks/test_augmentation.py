"""Hindsight segments: every one is a push that ends at the goal, in a world that obeys the same physics."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Demos, Normalizer, load_demos, make_windows
from vqbet_course.tasks import open_source
from vqbet_course.tasks.pusht import geometry as pusht
from vqbet_course.tasks.pusht.augmentation import EVERY, KEYPOINTS, PUSHER, augment_pusht, hindsight_pusht

pytestmark = pytest.mark.fast

pose = st.tuples(st.floats(50, 450), st.floats(50, 450), st.floats(-3.1, 3.1)).map(np.array)


@pytest.fixture(scope="module")
def demos() -> Demos:
    return load_demos(open_source("demo")).select(list(range(6)))


@pytest.fixture(scope="module")
def segments(demos: Demos) -> Demos:
    both = hindsight_pusht(demos)
    return both.select(list(range(len(demos), len(both))))


@given(pose)
def test_the_pose_is_read_back_from_the_keypoints(block: np.ndarray) -> None:
    np.testing.assert_allclose(pusht.block_pose(pusht.block_keypoints(block[None]))[0], block, atol=1e-9)


@given(pose)
def test_a_moved_world_has_its_block_on_the_goal(block: np.ndarray) -> None:
    points = pusht.block_keypoints(block[None]).reshape(-1, 2)
    goal = pusht.block_keypoints(pusht.GOAL_POSE[None]).reshape(-1, 2)
    np.testing.assert_allclose(pusht.to_goal(points, block), goal, atol=1e-9)


def test_the_demonstrations_come_first_and_unchanged(demos: Demos) -> None:
    both = hindsight_pusht(demos)
    assert len(both) > 2 * len(demos)
    np.testing.assert_array_equal(both.action[: len(demos.action)], demos.action)
    np.testing.assert_array_equal(both.episode_ends[: len(demos)], demos.episode_ends)


@pytest.mark.parametrize("chunk_size", [1, 8, 16])
def test_the_last_chunk_of_every_segment_is_decided_with_the_block_on_the_goal(demos: Demos, chunk_size: int) -> None:
    """Whatever the length of its chunks, a policy learns from the last moments before the goal."""
    both = hindsight_pusht(demos, chunk_size)
    windows = make_windows(both, Normalizer.fit(both), 2, 2, chunk_size)
    last = windows.observation_index[:, -1].numpy()
    episode = np.searchsorted(both.episode_ends, last, side="right")
    lasts = last[np.append(np.diff(episode) > 0, True)]  # the last frame of each episode at which a chunk is decided
    assert len(lasts) == len(both) > 2 * len(demos)
    at = both.observation[KEYPOINTS][lasts[len(demos) :]]
    goal = pusht.block_keypoints(pusht.GOAL_POSE[None])[0]
    np.testing.assert_allclose(at, np.broadcast_to(goal, at.shape), atol=1e-3)


def test_a_segment_stays_on_the_board_and_keeps_all_distances(demos: Demos, segments: Demos) -> None:
    """The pusher in the block's frame, and the reach of the action, are those of a demonstrated frame."""

    def invariant(d: Demos) -> np.ndarray:
        corners = d.observation[KEYPOINTS].reshape(-1, 8, 2) - d.observation[PUSHER][:, None]
        reach = d.action - d.observation[PUSHER]
        return np.column_stack([np.linalg.norm(corners, axis=2), np.linalg.norm(reach, axis=1)])

    for values in (*segments.observation.values(), segments.action):
        assert values.min() >= 0 and values.max() <= pusht.SIZE
    shown = invariant(demos)
    for row in invariant(segments)[::37]:
        assert np.abs(shown - row).max(axis=1).min() < 1e-2


def test_segments_with_little_before_their_moment_are_left_out(demos: Demos) -> None:
    lengths = np.diff(hindsight_pusht(demos, chunk_size=12).episode_ends, prepend=0)[len(demos) :]
    assert len(lengths) and lengths.min() >= 12 + EVERY


def test_augmenting_mirrors_all_of_it(demos: Demos) -> None:
    assert len(augment_pusht(demos)) == 2 * len(hindsight_pusht(demos))


def test_only_pusht_has_a_goal_to_move_to(demos: Demos) -> None:
    with pytest.raises(BadInput, match="keypoints"):
        hindsight_pusht(replace(demos, observation={"observation.state": demos.observation[PUSHER]}))
