"""The navigation toy: honest forks, safe demonstrations, crashes that are crashes, episodes that repeat."""

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from vqbet_course.core.errors import BadInput
from vqbet_course.tasks.navigation import (
    GOAL_RADIUS,
    MAX_STEP,
    NOISE,
    RADIUS,
    NavigationEnv,
    demonstrator,
    make_demos,
    plot_paths,
    rollout,
)

pytestmark = pytest.mark.fast


def straight_on(position: Any, generator: Any) -> Any:
    return np.array([[MAX_STEP, 0.0]])


@pytest.fixture(scope="module")
def demos() -> Any:
    return make_demos(60, seed=3)


def test_it_is_a_gymnasium_environment() -> None:
    check_env(NavigationEnv(2), skip_render_check=True)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([-1, 1]), min_size=1, max_size=3), st.floats(0.38, 0.48), st.integers(0, 2**31))
def test_every_demonstrator_arrives_by_its_own_route(route: list[int], width: float, seed: int) -> None:
    episode = rollout(demonstrator(tuple(route), width), seed, n_discs=len(route))
    assert episode.success and not episode.crashed
    assert episode.route == tuple(route)


def test_the_mean_of_two_routes_is_a_crash() -> None:
    episode = rollout(straight_on, seed=0)
    assert episode.crashed and not episode.success
    assert np.linalg.norm(episode.path[-1] - [0.5, 0]) < RADIUS
    assert (np.linalg.norm(episode.path[:-1] - [0.5, 0], axis=1) >= RADIUS).all()
    assert episode.route == (0,)


def test_at_the_fork_the_observation_is_identical_and_both_routes_are_taken(demos: Any) -> None:
    starts = np.concatenate([[0], demos.episode_ends[:-1]])
    assert (demos.observation[starts] == 0).all()
    assert set(demos.route[:, 0]) == {-1, 1}
    assert 0.3 < (demos.route > 0).mean() < 0.7
    assert (np.sign(demos.action[starts, 1]) == demos.route[:, 0]).all()  # the decision is in the action alone


def test_the_route_is_independent_of_what_happened_before_a_fork() -> None:
    routes = make_demos(60, seed=0, n_discs=2).route
    counts = np.unique(routes, axis=0, return_counts=True)[1]
    assert len(counts) == 4 and counts.min() > 6


def test_demos_hold_what_was_observed_and_done(demos: Any) -> None:
    assert demos.observation.dtype == demos.action.dtype == np.float32
    assert demos.observation.shape == demos.action.shape == (demos.episode_ends[-1], 2)
    np.testing.assert_allclose(np.linalg.norm(demos.action, axis=1), MAX_STEP, rtol=1e-5)
    within = np.delete(np.arange(len(demos.action)), demos.episode_ends - 1)
    slips = demos.observation[within + 1] - demos.observation[within] - demos.action[within]
    assert slips.std() == pytest.approx(NOISE, rel=0.1)
    np.testing.assert_allclose(slips.mean(0), 0, atol=4 * NOISE / np.sqrt(len(slips)))


def test_the_same_seed_gives_the_same_and_more_episodes_change_none(demos: Any) -> None:
    fewer, other = make_demos(20, seed=3), make_demos(20, seed=4)
    n = fewer.episode_ends[-1]
    assert np.array_equal(fewer.observation, demos.observation[:n])
    assert np.array_equal(fewer.route, demos.route[:20])
    assert not np.array_equal(fewer.action[:20], other.action[:20])


def test_draws_of_a_policy_come_from_its_episode() -> None:
    def wander(position: Any, generator: Any) -> Any:
        return generator.normal(size=(3, 2)) * MAX_STEP

    np.random.seed(0)
    before = np.random.get_state(legacy=True)[1].copy()  # type: ignore[index]
    first, again, other = (rollout(wander, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.path, again.path) and not np.array_equal(first.path[:9], other.path[:9])
    assert np.array_equal(before, np.random.get_state(legacy=True)[1])  # type: ignore[index]


def test_long_steps_are_shortened_and_standing_still_ends() -> None:
    env = NavigationEnv()
    env.reset(seed=0)
    position, *_ = env.step(np.array([3.0, 4.0]))
    np.testing.assert_allclose(position, [0.6 * MAX_STEP, 0.8 * MAX_STEP], atol=5 * NOISE)
    idle = rollout(lambda position, generator: np.zeros((1, 2)), seed=0)
    assert len(idle.actions) == env.max_steps and not idle.success and not idle.crashed


def test_the_goal_ends_an_episode_with_reward_one() -> None:
    env = NavigationEnv()
    env.reset(seed=0)
    env.position = np.array([1 - GOAL_RADIUS - 0.02, 0.0])
    *_, reward, terminated, truncated, info = env.step(np.array([MAX_STEP, 0.0]))
    assert (reward, terminated, truncated, info) == (1.0, True, False, {"crashed": False, "is_success": True})


@pytest.mark.parametrize("action", [np.zeros(3), np.array([np.nan, 0]), np.zeros((1, 2))])
def test_a_bad_action_is_refused(action: Any) -> None:
    env = NavigationEnv()
    env.reset(seed=0)
    with pytest.raises(BadInput, match="two finite numbers"):
        env.step(action)


@pytest.mark.parametrize("call", [lambda: NavigationEnv(0), lambda: make_demos(0), lambda: make_demos(1, n_discs=0)])
def test_bad_numbers_are_refused(call: Any) -> None:
    with pytest.raises(BadInput, match="at least 1"):
        call()


def test_a_crash_is_drawn_as_a_cross() -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    plot_paths(ax, [rollout(straight_on, seed=0).path, np.zeros((2, 2))], [True, False])
    assert [line.get_marker() for line in ax.lines].count("x") == 1
