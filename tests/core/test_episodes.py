"""Frames that lie end to end, and the episodes that they belong to."""

import numpy as np

from vqbet_course.core.episodes import frames_of_episodes


def test_the_frames_of_episodes_come_in_the_order_of_the_episodes() -> None:
    frames, ends = frames_of_episodes(np.array([0, 4]), np.array([4, 7]), [1, 0])
    assert frames.tolist() == [4, 5, 6, 0, 1, 2, 3] and ends.tolist() == [3, 7]


def test_no_episodes_have_no_frames() -> None:
    frames, ends = frames_of_episodes(np.array([0]), np.array([4]), [])
    assert frames.shape == ends.shape == (0,) and frames.dtype == np.int64
