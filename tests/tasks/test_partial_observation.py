"""What is shown instead of all keypoints: the same in demonstrations and in the environment."""

import numpy as np
import pytest

from vqbet_course.demos import load_demos
from vqbet_course.tasks import get_task, open_source
from vqbet_course.tasks.pusht.observation_wrappers import (
    KEYPOINTS,
    PARTIAL_OBSERVATIONS,
    Distractor,
    Hidden,
    observed_demos,
)

pytestmark = pytest.mark.fast


def test_half_of_all_frames_are_hidden_in_runs_of_the_length_asked_for() -> None:
    demos = load_demos(open_source("demo")).select([0, 1])
    seen = observed_demos(Hidden(4), demos, seed=1).observation[KEYPOINTS]
    hidden = (seen == 0).all(1)
    assert 0.4 < hidden.mean() < 0.6 and np.array_equal(seen[~hidden], demos.observation[KEYPOINTS][~hidden])
    first = hidden[: demos.episode_ends[0]]
    changes = np.flatnonzero(np.diff(first))
    assert (np.diff(changes) == 4).all() and len(changes) > 5


def test_a_distractor_wanders_on_the_board_and_tells_nothing_of_the_block() -> None:
    demos = load_demos(open_source("demo")).select([0, 1])
    seen, again = (observed_demos(Distractor(), demos, seed=1).observation[KEYPOINTS] for _ in range(2))
    assert np.array_equal(seen[:, :16], demos.observation[KEYPOINTS]) and np.array_equal(seen, again)
    assert seen.shape[1] == 32 and 0 <= seen.min() and seen.max() <= 512
    other = observed_demos(Distractor(), demos, seed=2).observation[KEYPOINTS]
    assert (seen[:, 16:] != other[:, 16:]).any(1).all()


@pytest.mark.parametrize("name", PARTIAL_OBSERVATIONS)
def test_the_environment_shows_what_its_seed_says(name: str) -> None:
    shown = []
    for _ in range(2):
        env = get_task("pusht").observed_partially(name).make_env()
        seen, _ = env.reset(seed=3)
        frames = [seen] + [env.step(np.array([200.0, 200.0]))[0] for _ in range(9)]
        shown.append(np.stack([frame["environment_state"] for frame in frames]))
        assert all((frame["agent_pos"] > 0).all() for frame in frames)  # the pusher is always in sight
    assert np.array_equal(shown[0], shown[1]) and len(np.unique(shown[0], axis=0)) > 1
