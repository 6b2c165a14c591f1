"""block_push: a world that repeats, a demonstrator that solves it in four ways, and what is measured of them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import CONFIG

from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.errors import BadInput
from vqbet_course.demos import load_demos
from vqbet_course.evaluation.behaviour import ways_in_words, ways_of_solving
from vqbet_course.evaluation.evaluate import Conditions, evaluate
from vqbet_course.evaluation.failures import failures_of
from vqbet_course.rollout import Rollout
from vqbet_course.tasks import augmented, get_task, task_of
from vqbet_course.tasks.block_push import environment
from vqbet_course.tasks.block_push.contract import BLOCK_PUSH, BLOCK_PUSH_TASK, INSIDE, SIZE, TARGETS
from vqbet_course.tasks.block_push.demonstrator import BlockPusher, deliver
from vqbet_course.tasks.block_push.environment import BlockPushEnv
from vqbet_course.tasks.block_push.traces import BEHAVIOURS, blocks_of, first_delivery
from vqbet_course.tasks.task import Task
from vqbet_course.training.runs import load_run
from vqbet_course.training.trainer import train

TASK = get_task("block_push")
BLOCKS, PUSHER = BLOCK_PUSH.observation


def demonstrate(env: BlockPushEnv, hand: BlockPusher) -> list[np.ndarray]:
    """What was so, (6,) each, while a demonstrator acts in an environment that was reset, up to success."""
    states = []
    for _ in range(BLOCK_PUSH_TASK.horizon):
        seen = env.observation()
        states.append(np.concatenate([seen["environment_state"], seen["agent_pos"]]))
        orange, blue, pusher = (complex(*point) for point in states[-1].reshape(3, 2))
        aim = hand.act(pusher, [orange, blue])
        if env.step(np.array([aim.real, aim.imag]))[2]:
            return states
    raise AssertionError("not solved")


# --- the world --------------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_an_episode_repeats_with_its_seed() -> None:
    def states(seed: int) -> np.ndarray:
        env = BlockPushEnv()
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(np.array([x, 250.0]))[0] for x in np.repeat([60, 450], 35)]
        return np.array([np.concatenate([*s.values()]) for s in seen])

    assert np.array_equal(states(3), states(3)) and not np.array_equal(states(3)[0], states(4)[0])
    assert (states(3)[0, :4] != states(3)[-1, :4]).any()  # a block was pushed


@pytest.mark.fast
def test_every_seed_starts_with_nothing_achieved_and_a_block_stands_still_until_it_is_pushed() -> None:
    env = BlockPushEnv()
    for seed in range(50):
        _, info = env.reset(seed=seed)
        assert info["progress"] == 0 and info["blocks_in_targets"] == 0 and not info["is_success"]
    before = env.positions()
    for _ in range(5):
        env.step(np.array(env.pusher.position))
    assert np.array_equal(env.positions(), before)


@pytest.mark.fast
def test_success_needs_a_block_in_each_target_whichever() -> None:
    env, pusher = BlockPushEnv(), np.array([256.0, 450.0])
    for blocks in (TARGETS, TARGETS[::-1]):
        assert env.place(pusher, blocks)[1] == {
            "is_success": True,
            "progress": 1.0,
            "blocks_in_targets": 2,
            "n_contacts": 0,
        }
    env.place(pusher, np.array([[200.0, 300.0], [300.0, 300.0]]))
    env.move_block(0, TARGETS[1] + [INSIDE - 1, 0])
    assert env.info()["progress"] == pytest.approx(0.5) and env.info()["blocks_in_targets"] == 1
    env.move_block(0, TARGETS[1] + [INSIDE + 2, 0])  # a part of it lies outside
    assert 0.4 < env.info()["progress"] < 0.5 and env.info()["blocks_in_targets"] == 0
    with pytest.raises(BadInput, match="two finite numbers"):
        env.step(np.array([np.nan, 0.0]))


# --- the demonstrator -------------------------------------------------------------------------------------------------


def test_the_demonstrator_solves_its_seeds_in_four_ways_though_its_hand_shakes() -> None:
    episodes = [deliver(seed) for seed in range(200_000, 200_025)]
    assert all(episode.success[-1] for episode in episodes)
    assert {first_delivery(episode.states) for episode in episodes} == set(BEHAVIOURS)
    for episode in episodes:
        assert np.linalg.norm(episode.actions - episode.states[:, 4:], axis=1).max() < 12.5  # steady, below 20 px


@pytest.mark.fast
def test_a_steady_hand_does_not_touch_the_other_block() -> None:
    for seed in range(200_000, 200_006):
        episode = deliver(seed, noise=0)
        label, blocks = first_delivery(episode.states), blocks_of(episode.states)
        assert label is not None
        other, delivered = int(label.startswith("orange")), int(np.argmax(episode.progress >= 0.5))
        assert delivered > 10 and np.array_equal(blocks[:delivered, other], blocks[[0] * delivered, other])


@pytest.mark.fast
def test_the_pusher_that_finds_itself_beside_a_block_touches_none() -> None:
    draw, env, angles = np.random.default_rng(0), BlockPushEnv(), []
    for seed in range(20):
        env.reset(seed=seed)
        before = env.positions()
        assert env.displace_pusher(0, draw)
        assert np.array_equal(env.positions(), before) and env.info()["n_contacts"] == 0
        way = np.array(env.pusher.position) - before[0]
        assert np.linalg.norm(way) == pytest.approx(51)  # radii of 20 and 30 px, and one
        angles.append(np.arctan2(*way))
        env.step(np.array(env.pusher.position))
        assert np.array_equal(env.positions(), before)
    assert np.ptp(angles) > 4  # on every side


@pytest.mark.fast
def test_demonstrations_show_the_way_back_of_a_pusher_beside_a_block() -> None:
    """Seldom the pusher jumps, farther than it moves in a step, and the episode is solved all the same."""
    jumps = 0
    for seed in range(200_000, 200_008):
        episode = deliver(seed)
        jumps += int((np.linalg.norm(np.diff(episode.states[:, 4:], axis=0), axis=1) > 25).sum())
        assert episode.success[-1]
    assert jumps > 3


@pytest.mark.fast
def test_the_same_seed_gives_the_same_demonstration_and_noise_another() -> None:
    one, two, still = deliver(200_000), deliver(200_000), deliver(200_000, noise=0)
    assert np.array_equal(one.states, two.states) and np.array_equal(one.actions, two.actions)
    assert not np.array_equal(one.states[:50], still.states[:50])
    with pytest.raises(BadInput, match="noise -1"):
        deliver(0, noise=-1)


@pytest.mark.fast
@pytest.mark.parametrize("number", range(4))
def test_from_one_start_the_four_behaviours_are_open_and_told_apart(number: int) -> None:
    env = BlockPushEnv()
    env.reset(seed=200_001)
    states = demonstrate(env, BlockPusher(*divmod(number, 2)))
    assert first_delivery(np.array(states)) == BEHAVIOURS[number]


@pytest.mark.fast
def test_the_demonstrator_comes_back_from_where_it_never_goes() -> None:
    draw = np.random.default_rng(0)
    env = BlockPushEnv()
    for _ in range(5):
        blocks = np.array([[draw.uniform(80, 220), draw.uniform(200, 400)], [draw.uniform(290, 430), 300.0]])
        env.place(np.array([256.0, draw.uniform(40, 150)]), blocks)
        demonstrate(env, BlockPusher(1, 0))


@pytest.mark.fast
@pytest.mark.parametrize("number", range(4))
def test_a_corrector_goes_on_with_the_behaviour_that_was_begun(number: int) -> None:
    env = BlockPushEnv()
    seen, _ = env.reset(seed=200_001)
    hand, correctors = BlockPusher(*divmod(number, 2)), [TASK.demonstrator(seed) for seed in range(6)]
    assert len({tuple(corrector(seen)) for corrector in correctors}) > 1  # they begin differently
    start = env.positions()
    while np.abs(env.positions() - start).max() < 15:
        orange, blue, pusher = (complex(*p) for p in (*env.positions(), env.observation()["agent_pos"]))
        aim = hand.act(pusher, [orange, blue])
        seen, *_ = env.step(np.array([aim.real, aim.imag]))
    assert len({tuple(corrector(seen)) for corrector in correctors}) == 1
    states = []
    for _ in range(BLOCK_PUSH_TASK.horizon):
        states.append(np.concatenate([seen["environment_state"], seen["agent_pos"]]))
        seen, _, won, *_ = env.step(correctors[0](seen))
        if won:
            break
    assert won and first_delivery(np.array(states)) == BEHAVIOURS[number]


# --- what a trace tells -----------------------------------------------------------------------------------------------


def trace(*moments: tuple[list[float], list[float], list[float]], success: bool = False, touches: int = 1) -> Rollout:
    """An episode of these moments: orange block, blue block, pusher."""
    truth = [np.array([*orange, *blue, *pusher]) for orange, blue, pusher in moments]
    return Rollout(7, success=success, truth=truth, observations=truth, contact=[touches] * len(truth), coverage=[0.0])


LEFT, RIGHT, ASIDE = [140.0, 105.0], [370.0, 95.0], [250.0, 300.0]
START = ([180.0, 280.0], [330.0, 280.0], [256.0, 450.0])


def solved(behaviour: str) -> Rollout:
    """An episode that shows this behaviour and ends well."""
    block, target = behaviour.split(" first, ")
    there = LEFT if target == "left" else RIGHT
    first = (there, START[1], ASIDE) if block == "orange" else (START[0], there, ASIDE)
    return trace(START, first, success=True)


@pytest.mark.fast
def test_behaviour_entropy_counts_the_behaviours_of_successful_episodes() -> None:
    all_four = [solved(label) for label in BEHAVIOURS]
    lost = trace(START, (LEFT, START[1], ASIDE))
    found = ways_of_solving([*all_four, lost, trace(START)], TASK, None)
    assert found["behaviours"]["entropy"] == pytest.approx(2) and found["behaviours"]["demonstrations"] is None
    assert found["behaviours"]["counts"] == dict.fromkeys(BEHAVIOURS, 1)
    assert found["milestones"] == {"one block in a target": pytest.approx(5 / 6)}
    one = ways_of_solving([solved(BEHAVIOURS[2])] * 3, TASK, None)["behaviours"]
    assert one["entropy"] == 0 and one["counts"][BEHAVIOURS[2]] == 3
    half = ways_of_solving([solved(BEHAVIOURS[0]), solved(BEHAVIOURS[3])], TASK, None)["behaviours"]
    assert half["entropy"] == pytest.approx(1)
    assert ways_of_solving([lost], TASK, None)["behaviours"]["entropy"] is None


@pytest.mark.fast
def test_the_entropy_of_the_demonstrations_stands_beside_that_of_the_episodes() -> None:
    demos = load_demos(TASK.demonstrations(8, 200_000))
    found = ways_of_solving([solved(BEHAVIOURS[0])], TASK, demos)
    assert 1 < found["behaviours"]["demonstrations"] <= 2
    assert "0.00 bits" in ways_in_words(found)[-1] and "at most 2.00" in ways_in_words(found)[-1]


@pytest.mark.fast
def test_a_task_whose_behaviours_are_counted_from_its_forks_reports_no_entropy() -> None:
    assert get_task("pusht").behaviours and ways_of_solving([trace(START)], get_task("pusht"), None) == {}
    assert ways_in_words({}) == []


def test_the_two_sides_of_the_disc_are_behaviours_of_navigation() -> None:
    task = get_task("navigation")
    demos = load_demos(task.demonstrations(20, seed=0))
    paths = np.split(demos.observation["observation.state"], demos.episode_ends[:-1])
    walked = [Rollout(0, True, truth=list(path), contact=[None] * len(path)) for path in paths]
    found = ways_of_solving(walked, task, demos)["behaviours"]
    assert found["counts"].keys() == {"left", "right"} and sum(found["counts"].values()) == 20
    assert 0.5 < found["entropy"] == found["demonstrations"] <= 1


FAILED = {
    "never reached": trace(*[START] * 3, touches=0),
    "pushed away": trace(START, (LEFT, [330.0, 330.0], ASIDE)),
    "stuck": trace(*[START] * 60),
    "one block only": trace(START, *[(START[0], RIGHT, [300.0 - i, 200.0]) for i in range(60)]),
    "unlabelled": trace(START, *[([180.0, 250.0], START[1], [300.0 - i, 200.0]) for i in range(60)]),
}


@pytest.mark.fast
@pytest.mark.parametrize("label", FAILED)
def test_a_failure_is_labelled_by_its_trace(label: str) -> None:
    episode = FAILED[label]
    first_rule = next((name for name, rule in TASK.failure_rules.items() if rule(episode, TASK.contract, None)), None)
    assert (first_rule or "unlabelled") == label


@pytest.mark.fast
def test_a_block_against_the_wall_is_named() -> None:
    episode = trace(START, ([31.0, 300.0], START[1], ASIDE))
    episode.actions, episode.latency_ms = [np.array(ASIDE)] * 2, [1.0] * 2
    found = failures_of([episode], TASK.contract, None, TASK.failure_rules)["7"]
    assert found["label"] == "pushed away" and "orange block ends against a wall" in found["evidence"]


# --- perturbations ----------------------------------------------------------------------------------------------------


def approach(asked: str, seed: int = 6) -> Iterator[tuple[BlockPushEnv, dict, dict]]:
    """The world, the observation and the `info` of each step on the way to the orange block."""
    env = TASK.perturbed([asked]).make_env()
    env.reset(seed=seed)
    world = env.unwrapped
    assert isinstance(world, BlockPushEnv)
    goal = world.positions()[0]
    for _ in range(40):
        pusher = np.array(world.pusher.position)
        way = goal - pusher
        observation, _, _, _, info = env.step(pusher + way * min(1, 10 / np.linalg.norm(way)))
        yield world, observation, info


@pytest.mark.fast
def test_the_approached_block_is_shoved_once_by_the_amount() -> None:
    def shoves() -> list[tuple[int, list[float]]]:
        env = BlockPushEnv()
        env.reset(seed=6)
        before, found = env.positions(), []
        for step, (world, _, info) in enumerate(approach("shove-on-approach=50")):
            if info.get("intervention"):
                assert info["intervention"] == "shove-on-approach"
                found.append((step, np.linalg.norm(world.positions() - before, axis=1).round(6).tolist()))
        return found

    assert shoves() == shoves() and len(shoves()) == 1
    step, moved = shoves()[0]
    assert moved == [50.0, 0.0] and step > 3


@pytest.mark.fast
def test_late_blocks_are_observed_where_they_were() -> None:
    true, seen = [], []
    for _, observation, info in approach("late-blocks=3"):
        true.append(info["true_observation"]["environment_state"])
        seen.append(observation["environment_state"])
        assert np.array_equal(observation["agent_pos"], info["true_observation"]["agent_pos"])
    assert np.array_equal(seen[10:], true[7:-3]) and len(np.unique(true, axis=0)) > 3


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_demonstrations_are_the_tasks_own_and_go_on_behind_success() -> None:
    source = TASK.demonstrations(2, 200_000)
    demos = load_demos(source)
    assert demos.contract == BLOCK_PUSH and task_of(demos.contract) is TASK
    for episode in source.episodes():
        won = episode.numbers["next.success"][:, 0]
        assert won[-9:].all() and episode.numbers["next.done"][:, 0].sum() == 1  # so that chunks of 8 know the end


@pytest.mark.fast
def test_an_augmented_demonstration_is_what_the_world_would_do() -> None:
    """Mirrored and with colours exchanged, the same pushes bring the blocks to the targets in another way."""
    one = load_demos(TASK.demonstrations(1, 200_000, noise=0))
    four = augmented(one, 8)
    assert len(four) == 4
    labels = set()
    for number in range(4):
        demo, env = four.select([number]), BlockPushEnv()
        seen = demo.observation[BLOCKS].reshape(-1, 2, 2)
        env.place(demo.observation[PUSHER][0], seen[0])
        for action, blocks in zip(demo.action, seen, strict=True):
            assert np.abs(env.positions() - blocks).max() < 1
            env.step(action)
        labels.add(first_delivery(np.hstack([demo.observation[BLOCKS], demo.observation[PUSHER]])))
    assert labels == set(BEHAVIOURS)


@pytest.mark.fast
def test_a_state_is_drawn() -> None:
    episode = next(TASK.demonstrations(1, 200_000).episodes())
    frames = list(TASK.draw(episode)())
    assert len(frames) == len(episode) and frames[0].shape == (96, 96, 3) and frames[0].dtype == np.uint8
    assert (frames[0] != frames[-1]).any()
    env = BlockPushEnv()
    env.place(np.array([256.0, 450.0]), np.array([[150.0, 300.0], [350.0, 300.0]]))
    image = env.render()
    assert image.shape == (SIZE, SIZE, 3)
    assert [image[300, x].argmin() for x in (150, 350)] == [2, 0]  # orange lacks blue, blue lacks red


# --- by the command line ----------------------------------------------------------------------------------------------


def test_a_policy_is_trained_and_evaluated_and_nothing_is_drawn_unless_videos_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "demos")
    assert main(["demos", "make", "--task", "block_push", "--episodes", "4", "--seed", "200000", "--out", out]) == 0
    monkeypatch.setattr(environment, "BLOCK_PUSH_TASK", replace(BLOCK_PUSH_TASK, horizon=20))  # of its episodes, too
    config = CONFIG.to_dict() | {"observation_sizes": {BLOCKS: 4, PUSHER: 2}}
    train(out, tmp_path / "run", Budget(steps=12), type(CONFIG).from_dict(config), quiet=True)
    run = load_run(tmp_path / "run")
    assert run.policy.config.use_relative_actions
    with monkeypatch.context() as without:
        without.setattr(BlockPushEnv, "render", lambda self: pytest.fail("drawn"))
        result = evaluate(run, 2, 200_000, videos=0, conditions=Conditions(perturb=["shove-on-approach"]), quiet=True)
    assert result["task"] == "block_push" and result["metrics"]["milestones"].keys() == {"one block in a target"}
    assert result["metrics"]["behaviours"]["demonstrations"] > 0
    written = json.loads((tmp_path / "run" / "eval" / "seed-200000-shove-on-approach" / "run.json").read_text())
    assert written["metrics"]["behaviours"]["counts"].keys() == set(BEHAVIOURS)
    assert main(["eval", str(tmp_path / "run"), "--episodes", "1", "--videos", "1"]) == 0
    assert "behaviour entropy" in capsys.readouterr().out
    assert (tmp_path / "run" / "eval" / "seed-100000" / "episode-100000.mp4").stat().st_size > 1000


@pytest.mark.fast
@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["train", "--task", "block_push", "--data", "demo", "--steps", "3"], "not demonstrations of block_push"),
        (["demos", "make", "--task", "block_push", "--style", "left"], "no option style"),
        (["demos", "make", "--task", "block_push", "--noise", "-1"], "noise -1"),
        (["demos", "make", "--task", "block_pish"], "unknown task"),
        (["compare", "--task", "block_push"], "demos make --task block_push"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    command: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and why in said


@pytest.mark.fast
def test_the_tasks_are_listed_with_what_they_need(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["tasks"]) == 0
    listed = capsys.readouterr().out
    for part in ("pusht: ", "navigation: ", "block_push: ", "pymunk", "shove-on-approach", BEHAVIOURS[0], "demos make"):
        assert part in listed
    assert "missing" not in listed
    monkeypatch.setattr(type(TASK), "needs", {"surely_not_installed": "surely-not-installed>=2"})
    assert main(["tasks"]) == 0 and "missing: surely-not-installed>=2" in capsys.readouterr().out
    assert main(["demos", "make", "--task", "block_push", "--out", "nowhere"]) == 2
    assert "pip install 'surely-not-installed>=2'" in capsys.readouterr().err
    assert isinstance(task_of(BLOCK_PUSH), Task)  # its data are recognised all the same
