"""What goes wrong, goes wrong as asked: repeatably, and said in the trace."""

import numpy as np
import pytest
from small import small_run

from vqbet_course.core.errors import BadInput
from vqbet_course.evaluation.behaviour import recovery, shoved_at, steps_to_recover
from vqbet_course.evaluation.evaluate import Conditions, evaluate
from vqbet_course.evaluation.failures import Rule, perception, state_estimation
from vqbet_course.rollout import Rollout, flat
from vqbet_course.tasks import get_task
from vqbet_course.tasks.perturbations import KINDS, parse_perturbation
from vqbet_course.tasks.pusht.contract import PUSHT_TASK
from vqbet_course.tasks.pusht.environment import make_pusht, pusht_world
from vqbet_course.tasks.pusht.geometry import place
from vqbet_course.tasks.pusht.perturbations import PUSHT_KINDS, SHOVE_PX
from vqbet_course.training.runs import load_run

pytestmark = pytest.mark.fast

ACTION, PUSHT = np.array([300.0, 200.0]), get_task("pusht")


def walk(asked: list[str], steps: int = 8, seed: int = 3) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """What is seen, what is so (steps + 1, 18) and what happened, of a walk towards ACTION."""
    env = PUSHT.perturbed(asked).make_env()
    observation, info = env.reset(seed=seed)
    seen, true, happened = [observation], [info.get("true_observation", observation)], []
    for step in range(steps):
        observation, _, _, _, info = env.step(ACTION + 10 * step)
        seen.append(observation)
        true.append(info.get("true_observation", observation))
        happened.append(info.get("intervention", ""))
    return flat(seen), flat(true), happened


@pytest.mark.parametrize("name", [*KINDS, *PUSHT_KINDS])
def test_a_perturbation_repeats_and_is_named(name: str) -> None:
    one, two = walk([f"{name}=3"]), walk([f"{name}=3"])
    assert np.array_equal(one[0], two[0]) and one[2] == two[2]
    assert set(one[2]) <= {name, ""} and name in one[2]


def test_undisturbed_nothing_is_named() -> None:
    seen, true, happened = walk([])
    assert np.array_equal(seen, true) and set(happened) == {""}


def test_noise_on_what_is_seen_leaves_the_world_alone() -> None:
    seen, true, _ = walk(["observation-noise=5"], steps=40)
    assert np.array_equal(true, walk([], steps=40)[0])
    assert 4 < np.std(seen - true) < 6


def test_a_frozen_frame_stays_for_as_many_steps() -> None:
    seen, true, _ = walk(["frozen-frames=3"])
    assert all(np.array_equal(seen[i], true[i - i % 3]) for i in range(len(seen)))
    assert not np.array_equal(true[1], true[0])


@pytest.mark.parametrize(("name", "rule"), [("observation-noise", state_estimation), ("frozen-frames", perception)])
def test_the_usual_amount_is_enough_for_the_rule_that_looks_for_it(name: str, rule: Rule) -> None:
    seen, true, _ = walk([name], steps=40)
    assert rule(Rollout(0, observations=[*seen], truth=[*true]), PUSHT_TASK, None)


def test_a_delayed_action_is_the_action_of_before() -> None:
    assert np.array_equal(walk(["delayed-actions=0"])[0], walk([])[0])
    env, plain = PUSHT.perturbed(["delayed-actions=2"]).make_env(), make_pusht()
    env.reset(seed=1), plain.reset(seed=1)
    sent = [ACTION, ACTION + 50, ACTION - 50, ACTION]
    late = flat([env.step(action)[0] for action in sent])
    on_time = flat([plain.step(action)[0] for action in [ACTION, ACTION, ACTION, ACTION + 50]])
    assert np.array_equal(late, on_time)


def test_a_shove_displaces_the_block_once() -> None:
    shoved, plain = walk(["shove=4"])[1], walk([])[0]
    moved = np.linalg.norm((shoved - plain)[:, :2], axis=1)
    assert (moved[:5] == 0).all() and moved[5] > SHOVE_PX / 2
    assert walk(["shove=4"])[2] == ["", "", "", "", "shove", "", "", ""]


def test_a_shove_is_as_long_beside_a_wall() -> None:
    env = PUSHT.perturbed(["shove=0"]).make_env()
    for seed in range(6):
        env.reset(seed=seed)
        world = pusht_world(env)
        place(world, np.array([60.0, 60.0]), np.array([440.0, 440.0, np.pi]))
        env.step(np.array([60.0, 60.0]))
        assert np.linalg.norm(np.array(world.block.position) - 440) == pytest.approx(SHOVE_PX, abs=1)


def test_friction_reaches_pusher_and_block() -> None:
    env = PUSHT.perturbed(["friction=0.7"]).make_env()
    env.reset(seed=0)
    world = pusht_world(env)
    assert {shape.friction for body in (world.agent, world.block) for shape in body.shapes} == {0.7}


def test_several_at_once_are_all_named() -> None:
    assert walk(["observation-noise=1", "shove=0"])[2][0] in {"observation-noise+shove", "shove+observation-noise"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("wind", "unknown perturbation 'wind'; choose from observation-noise"),
        ("shove=soon", "'soon' is not a number"),
        ("shove=-1", "at least 0"),
        ("frozen-frames=0", "at least 1"),
        ("friction=nan", "at least 0"),
        ("action-noise=inf", "at least 0"),
    ],
)
def test_what_cannot_be_asked_for(asked: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse_perturbation(asked, KINDS | PUSHT_KINDS)


def test_a_task_without_a_block_cannot_be_shoved_which_is_said_at_once() -> None:
    with pytest.raises(BadInput, match="unknown perturbation 'shove'; choose from observation-noise"):
        get_task("navigation").perturbed(["shove=40"])


def test_recovery_is_counted_from_the_shove() -> None:
    coverage, what = [0.2, 0.5, 0.1, 0.3, 0.5, 0.6], ["", "", "shove", "", "", ""]
    episode = Rollout(0, coverage=coverage, intervention=what)
    assert shoved_at(episode) == 2 and steps_to_recover(episode, 2) == 2
    never = Rollout(0, coverage=[0.2, 0.5, 0.1], intervention=["", "", "shove"])
    no_loss = Rollout(0, coverage=[0.0, 0.0, 0.1], intervention=["", "shove", ""])
    assert recovery([episode, never, no_loss]) == {"shoved": 2, "recovered": 1, "steps_p50": 2.0}


@pytest.mark.usefixtures("short_evaluations")
def test_an_evaluation_says_what_disturbed_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    import pyarrow.parquet as pq

    run = load_run(small_run(tmp_path_factory.mktemp("perturbed")))
    result = evaluate(run, 1, seed=4, videos=0, conditions=Conditions(perturb=["shove=5"]), quiet=True)
    assert result["perturb"] == ["shove=5"]
    trace = pq.read_table(run.path / "eval" / "seed-4-shove=5" / "traces.parquet").to_pydict()
    assert trace["intervention"].index("shove") == 5 and trace["intervention"].count("shove") == 1
