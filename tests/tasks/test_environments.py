"""Gymnasium: environments and wrappers keep its interface, alone and stacked, and are made by their ids."""

import subprocess
import sys
import warnings
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vqbet_course.demos import load_demos
from vqbet_course.goals import ShownGoal, with_shown_goal
from vqbet_course.tasks import get_task, open_source
from vqbet_course.tasks.block_push.perturbations import BLOCK_PUSH_KINDS
from vqbet_course.tasks.navigation import NavigationEnv
from vqbet_course.tasks.perturbations import KINDS
from vqbet_course.tasks.pusht.observation_wrappers import PARTIAL_OBSERVATIONS
from vqbet_course.tasks.pusht.perturbations import PUSHT_KINDS
from vqbet_course.tasks.task import IMAGE, Task

PUSHT, NAVIGATION, BLOCK_PUSH = get_task("pusht"), get_task("navigation"), get_task("block_push")


def demonstrated() -> Task:
    return PUSHT.starting_from(load_demos(open_source("demo")).select([0, 1]), "where demonstrations start")


def goal_of_navigation() -> gym.Env:
    return ShownGoal(NavigationEnv(), np.array([0.5, 0.4, 1.0, 0.0]), "observation.state", n=2)


ENVIRONMENTS: dict[str, Callable[[], gym.Env]] = {
    "PushT": PUSHT.make_env,
    "navigation": NAVIGATION.make_env,
    "block_push": BLOCK_PUSH.make_env,
    "start of a demonstration of block_push": lambda: BLOCK_PUSH.starting_from(
        load_demos(BLOCK_PUSH.demonstrations(2, 200_000)), "there"
    ).make_env(),
    "two discs": lambda: NavigationEnv(2),
    "demonstrated start": lambda: demonstrated().make_env(),
    "camera": PUSHT.with_cameras([IMAGE]).make_env,
    "goal": PUSHT.at_goal("180,300,1").make_env,
    "told goal": with_shown_goal(PUSHT.at_goal("random")).make_env,
    "goals of navigation": goal_of_navigation,
    **{name: PUSHT.observed_partially(name).make_env for name in PARTIAL_OBSERVATIONS},
    **{name: PUSHT.perturbed([name]).make_env for name in [*KINDS, *PUSHT_KINDS]},
    **{f"{name} in navigation": NAVIGATION.perturbed([name]).make_env for name in KINDS},
    **{f"{name} in block_push": BLOCK_PUSH.perturbed([name]).make_env for name in [*KINDS, *BLOCK_PUSH_KINDS]},
    "all together": lambda: (
        with_shown_goal(demonstrated().at_goal("random"))
        .with_cameras([IMAGE])
        .perturbed([*KINDS, *PUSHT_KINDS])
        .make_env()
    ),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_keeps_the_interface_and_its_space_contains_what_it_observes(name: str) -> None:
    env = ENVIRONMENTS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is wrapped, that a bound is infinite
        check_env(env, skip_render_check=True)
    observation, _ = env.reset(seed=3)
    env.action_space.seed(0)
    for _ in range(15):
        assert observation in env.observation_space
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            break


def test_a_t_in_the_corner_of_the_board_is_in_the_space() -> None:
    env = PUSHT.make_env()
    for seed in range(200):
        assert env.reset(seed=seed)[0] in env.observation_space


IDS = {"PushT-v0": "pusht", "Navigation-v0": "navigation", "BlockPush-v0": "block_push"}

MAKES = """
import gymnasium as gym
for name in {names}:
    env = gym.make("{module}:vqbet_course/" + name)
    env.reset(seed=0)
    known = env.get_wrapper_attr("contract").horizon
    print(name, known, env.spec.max_episode_steps or known)
"""


@pytest.mark.parametrize("module", ["vqbet_course", "vqbet_course.tasks.environments"])
def test_environments_are_made_by_their_ids(module: str) -> None:
    code = MAKES.format(module=module, names=[*IDS])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    horizons = {name: get_task(task).horizon for name, task in IDS.items()}
    assert done.stdout.splitlines()[-3:] == [f"{name} {steps} {steps}" for name, steps in horizons.items()]


def test_a_camera_draws_without_the_cross_of_the_last_action() -> None:
    env = PUSHT.make_env()
    env.reset(seed=0)
    env.step(np.array([300.0, 300.0]))
    assert not (np.asarray(env.render()) == [255, 0, 0]).all(-1).any()
