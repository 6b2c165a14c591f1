"""Goals: drawn by hindsight, heard by the policy, set in the world."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPO
from small import CONFIG, arrays, same, small_run, write_npz
from torch import Tensor

from vqbet_course import tasks
from vqbet_course.baselines import BC, chunk_stage
from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.frames import StateFrame
from vqbet_course.core.specs import GOAL
from vqbet_course.demos import Demos, load_demos
from vqbet_course.evaluation.evaluate import Conditions, evaluate
from vqbet_course.evaluation.results import rows_of
from vqbet_course.experiments.design import Hypothesis, judge_hypothesis
from vqbet_course.experiments.panel import as_policy, build
from vqbet_course.goals import ShownGoal, goal_rows, goal_shape, with_shown_goal
from vqbet_course.rollout import rollouts
from vqbet_course.tasks import get_task, navigation, open_source
from vqbet_course.tasks.pusht import geometry as pusht
from vqbet_course.tasks.pusht.block_frame import BlockFrame, frame_of, turn_back
from vqbet_course.tasks.pusht.contract import PUSHT_TASK
from vqbet_course.tasks.pusht.environment import draw_pose, parse_pose, pusht_world
from vqbet_course.tasks.pusht.task import PushT
from vqbet_course.tasks.task import Task
from vqbet_course.training.data import Setup, prepare
from vqbet_course.training.factory import build_policy
from vqbet_course.training.runs import load_run, read_plan
from vqbet_course.training.trainer import Selection, resume, train

GOALS = dataclasses.replace(CONFIG, goal_shape=(1, 16))


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Demos:
    return load_demos(open_source(write_npz(tmp_path_factory.mktemp("data") / "data.npz")))


def setup_of(demos: Demos, kind: str, augment: bool = False) -> Setup:
    return prepare(demos, GOALS, augment, kind)


@pytest.mark.parametrize("kind", ["future", "final", "sequence"])
def test_goals_are_of_the_own_episode_and_never_of_the_past(demos: Demos, kind: str) -> None:
    starts, ends = torch.from_numpy(demos.episode_starts), torch.from_numpy(demos.episode_ends)
    now = torch.cat([torch.arange(s, e - 1) for s, e in zip(starts, ends, strict=True)]).repeat(20)
    episode = torch.searchsorted(ends, now, right=True)
    first, last = starts[episode], ends[episode] - 1
    rows = goal_rows(kind, 2 if kind == "sequence" else 1, now, first, last, torch.rand(len(now)))
    assert ((rows >= first[:, None]) & (rows <= last[:, None])).all()
    if kind == "future":
        assert (rows[:, 0] > now).all()
        assert {1, 2} <= set((rows[:, 0] - now).tolist()) and (rows[:, 0] == last).any()
    else:
        assert torch.equal(rows[:, -1], last)


def test_two_tasks_of_one_contract_change_the_frame_once(demos: Demos, monkeypatch: pytest.MonkeyPatch) -> None:
    before = setup_of(demos, "final").windows.chunks
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS) | {"another": PushT()})
    assert torch.equal(setup_of(demos, "final").windows.chunks, before)


def test_the_last_frame_of_an_episode_has_itself_as_its_future() -> None:
    at = torch.tensor([7])
    assert goal_rows("future", 1, at, torch.tensor([0]), at, torch.tensor([0.999])).tolist() == [[7]]


def test_windows_show_the_keypoints_of_the_end_as_final_goal(demos: Demos) -> None:
    setup = setup_of(demos, "final")
    every = torch.arange(len(setup.windows.observation_index))
    shown = setup.normalizer.unnormalize(GOAL, setup.windows.seen(every)[GOAL])
    now = setup.windows.observation_index[:, -1].numpy()
    end = demos.episode_ends[np.searchsorted(demos.episode_ends, now, "right")] - 1
    keypoints = torch.from_numpy(demos.observation["observation.environment_state"][end])
    assert torch.allclose(shown, keypoints[:, None].expand_as(shown), atol=1e-2)


def test_windows_without_goals_show_none(demos: Demos) -> None:
    windows = prepare(demos, CONFIG, augment=False).windows
    assert windows.goals is None and GOAL not in windows.seen(torch.arange(3))


def window(config: VQBeTConfig) -> dict[str, Tensor]:
    return {name: torch.randn(3, 2, size) for name, size in (config.observation_sizes | config.goal_sizes).items()}


def test_no_goal_is_the_policy_as_it_was() -> None:
    torch.manual_seed(0)
    with_goals = build_policy(GOALS).eval().network
    torch.manual_seed(0)
    without = build_policy(CONFIG).eval().network
    assert type(without.frame) is StateFrame and type(with_goals.frame) is BlockFrame
    assert without.encode_goals(window(CONFIG)) is None


def test_every_query_hears_the_goal_and_acts_on_it() -> None:
    torch.manual_seed(0)
    policy, one = build_policy(GOALS).eval(), window(GOALS)
    two = one | {GOAL: torch.randn(3, 2, 16)}
    assert (policy.network.features(one) != policy.network.features(two)).any(-1).all()
    moment = {name: values[:, -1] for name, values in one.items()}
    actions = []
    for goal in (one[GOAL][:, -1], two[GOAL][:, -1]):
        policy.reset([torch.Generator().manual_seed(i) for i in range(3)])
        actions.append(policy.select_action(moment | {GOAL: goal}))
    assert (actions[0] != actions[1]).all()


def test_what_acting_sees_is_what_training_showed() -> None:
    torch.manual_seed(0)
    policy, seen = build_policy(GOALS).eval(), window(GOALS)
    policy.reset([torch.Generator().manual_seed(i) for i in range(3)])
    policy.select_action({name: values[:, 0] for name, values in seen.items()})
    policy.actions.clear()
    policy.tokens.popleft()
    policy.select_action({name: values[:, 1] for name, values in seen.items()})
    assert policy.decision is not None
    features = policy.network.features(seen)[:, 1]
    uniform = torch.stack([torch.rand(4, generator=torch.Generator().manual_seed(i))[2:] for i in range(3)])
    axis = frame_of(seen["observation.environment_state"][:, 1])[1]
    expected = (
        turn_back(policy.network.decide(features, uniform, policy.acting.temperature).actions, axis)
        + seen["observation.state"][:, 1:]
    )
    assert torch.allclose(policy.decision.actions, expected, atol=1e-5)


def scene(angle: float, shift: float = 0.0) -> tuple[dict[str, Tensor], np.ndarray]:
    """One moment of PushT, normalised, with the whole scene turned and shifted; and what turns points so."""
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    block, goal = pusht.block_keypoints(np.array([[200, 220, 0.3], [300, 280, 1.2]]))
    points = {"observation.environment_state": block, "observation.state": np.array([150, 180]), GOAL: goal}
    moved = {k: (v.reshape(-1, 2) - 256) @ turned.T + 256 + shift for k, v in points.items()}
    return {k: torch.from_numpy(v).float().view(1, -1) / 256 - 1 for k, v in moved.items()}, turned


@pytest.mark.parametrize("kind", ["vqbet", "bc"])
def test_a_scene_that_is_turned_and_shifted_is_acted_on_alike(kind: str) -> None:
    torch.manual_seed(0)
    policy: Any = as_policy(build(kind, dataclasses.replace(GOALS, n_obs_steps=2)).eval())
    actions = []
    for angle, shift in ((0.0, 0.0), (1.0, 20.0), (-2.5, -30.0)):
        seen, turned = scene(angle, shift)
        policy.reset([torch.Generator().manual_seed(0)])
        actions.append((policy.select_action(seen)[0].numpy() - shift / 256) @ turned)
        said = policy.decision
        assert torch.allclose(said.decoded + said.offset, said.actions, atol=1e-5)
    assert np.allclose(actions, actions[0], atol=1e-5)


@pytest.mark.parametrize("n_action_pred_token", [1, 3])
def test_chunks_told_from_the_T_are_those_of_the_demonstration(demos: Demos, n_action_pred_token: int) -> None:
    config = dataclasses.replace(GOALS, n_action_pred_token=n_action_pred_token, action_queries=True)
    setup = prepare(demos, config, False, "final")
    windows, last = setup.windows, config.n_obs_steps - 1
    for row in (0, 1, len(windows.observation_index) - 1):
        now = windows.observation_index[row, -1]
        for ahead in range(n_action_pred_token):
            begin = now + ahead
            chunk = windows.chunks[windows.chunk_index[row, last + ahead]]
            here = windows.observation["observation.state"][begin]
            block = windows.observation["observation.environment_state"][begin]
            told = setup.normalizer.unnormalize("action", here + turn_back(chunk, frame_of(block)[1])).numpy()
            np.testing.assert_allclose(told, demos.action[begin : begin + config.action_chunk_size], atol=0.01)


def test_what_only_looks_like_PushT_has_no_goals_in_its_frame(demos: Demos) -> None:
    with pytest.raises(BadInput, match="they are not PushT's"):
        prepare(dataclasses.replace(demos, units={}), GOALS, False, "future")


@pytest.mark.parametrize("shape", [(0, 16), (1, 0), (20, 16)])
def test_goals_that_do_not_fit(shape: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="observation.goal must be at least 1|do not fit into gpt_block_size"):
        dataclasses.replace(GOALS, goal_shape=shape)


def test_goals_told_from_the_T_need_moves() -> None:
    with pytest.raises(BadInput, match="need use_relative_actions"):
        build_policy(dataclasses.replace(GOALS, use_relative_actions=False))


def test_a_configuration_comes_back_from_json() -> None:
    assert VQBeTConfig.from_dict(json.loads(json.dumps(GOALS.to_dict()))) == GOALS


def test_unknown_kinds_and_pictures_are_refused() -> None:
    with pytest.raises(BadInput, match="unknown goal 'past'"):
        goal_shape("past", {"observation.state": 2})
    with pytest.raises(BadInput, match="goals are numbers"):
        goal_shape("future", {})


# --- training ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("goals"), goal="future")


def test_a_run_remembers_its_goals(run: Path) -> None:
    plan, config = read_plan(run)
    loaded = load_run(run)
    assert plan.goal == "future" and config.goal_shape == (1, 16)
    assert [*loaded.contract.observation][0] == GOAL and GOAL in loaded.normalizer.bounds


def test_resuming_draws_the_same_goals(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Selection(data=write_npz(tmp_path / "data.npz"), goal="future")
    whole = train(data, tmp_path / "whole", Budget(steps=12), CONFIG, quiet=True)
    from vqbet_course.train import Stage

    as_usual = Stage.step

    def dies(stage: Stage, step: int, seed: int) -> dict[str, Tensor]:
        if (stage.name, step) == ("policy", 5):
            raise KeyboardInterrupt
        return as_usual(stage, step, seed)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vqbet_course.training.checkpoints.SECONDS_BETWEEN", 0.0)
        patch.setattr(Stage, "step", dies)
        train(data, tmp_path / "broken", Budget(steps=12), CONFIG, quiet=True)
    assert same(whole.network.state_dict(), resume(tmp_path / "broken", quiet=True).network.state_dict())


def test_a_plan_from_before_there_were_goals_is_read(run: Path, tmp_path: Path) -> None:
    old = json.loads((run / "train_state.json").read_text())
    del old["goal"]
    (tmp_path / "train_state.json").write_text(json.dumps(old))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    assert read_plan(tmp_path)[0].goal == "none"


def test_behaviour_cloning_hears_goals_too(demos: Demos) -> None:
    setup = setup_of(demos, "future")
    torch.manual_seed(0)
    stage = chunk_stage(BC(GOALS), setup.windows, 30)
    losses = [stage.step(step, 0)["loss"].item() for step in range(30)]
    assert losses[-1] < losses[0]
    bc, seen = stage.acting(), window(GOALS)
    assert isinstance(bc, BC) and (bc(seen) != bc(seen | {GOAL: seen[GOAL] + 1})).any()


# --- the world --------------------------------------------------------------------------------------------------


def at_goal(asked: str) -> Task:
    """PushT with its goal where it was asked for, told to the policy."""
    return with_shown_goal(get_task("pusht").at_goal(asked))


def test_the_goal_is_where_it_was_put_after_every_reset() -> None:
    pose = np.array([180.0, 300.0, 1.0])
    env = at_goal("180,300,1.0").make_env()
    for seed in (1, 2):
        seen, _ = env.reset(seed=seed)
        assert np.allclose(pusht.block_pose(seen["goal"][None])[0], pose, atol=1e-3)
        world = pusht_world(env)
        block = world.block
        block.angle = pose[2]  # first: a body turns about its centre of gravity
        block.position = tuple(pose[:2])
        world.space.reindex_shapes_for_body(block)
        assert world.coverage() > 0.999


def test_the_usual_pose_is_the_usual_task_and_another_is_not() -> None:
    hidden = get_task("pusht").at_goal(None).make_env()
    assert PUSHT_TASK.difference(hidden.get_wrapper_attr("contract")) is None and "goal" not in hidden.reset(seed=0)[0]
    moved = get_task("pusht").at_goal("200,200,0").make_env()
    assert "goal at x 200, y 200, 0 rad" in str(PUSHT_TASK.difference(moved.get_wrapper_attr("contract")))


def test_drawn_poses_are_on_the_board_and_repeat() -> None:
    poses = np.array([draw_pose(seed) for seed in range(200)])
    corners = pusht.block_keypoints(poses)
    assert corners.min() >= 0 and corners.max() <= pusht.SIZE
    assert np.array_equal(draw_pose(7), poses[7]) and len(np.unique(poses, axis=0)) == 200
    distance = np.hypot(*(poses[:, :2] - pusht.GOAL_POSE[:2]).T)
    assert (distance > 20).mean() > 0.9  # unseen: few are near to where demonstrations end


@pytest.mark.parametrize("asked", ["1,2", "a,b,c", "", "nan,200,0", "256,256,0,1", "10,256,0", "256,500,0"])
def test_poses_that_are_none(asked: str) -> None:
    with pytest.raises(BadInput, match="--goal-pose"):
        parse_pose(asked)


def test_goals_and_perturbations_together() -> None:
    env = at_goal("random").perturbed(["observation-noise=5"]).make_env()
    seen, info = env.reset(seed=1)
    assert set(seen) == set(info["true_observation"]) == {"goal", "environment_state", "agent_pos"}


@pytest.mark.usefixtures("short_evaluations")
def test_a_run_with_goals_is_evaluated_at_any_pose(run: Path, tmp_path: Path) -> None:
    loaded = load_run(run)
    usual = evaluate(loaded, 1, seed=5, out=tmp_path / "a", videos=0, quiet=True)
    moved = evaluate(
        loaded, 1, seed=5, out=tmp_path / "b", videos=1, conditions=Conditions(goal_pose="180,300,1.0"), quiet=True
    )
    assert usual["goal_pose"] is None and moved["goal_pose"] == "180,300,1.0"
    assert usual["contract"]["resets"] != moved["contract"]["resets"]
    assert usual["episodes"][0]["failure"]["label"] and (tmp_path / "b" / "episode-5.mp4").exists()


def test_the_toy_shows_its_goals_first() -> None:
    toy = navigation.make_demos(20)
    walks = Demos({"observation.state": toy.observation}, toy.action, toy.episode_ends, 10.0, "navigation")
    config = dataclasses.replace(
        CONFIG,
        observation_sizes={"observation.state": 2},
        use_relative_actions=False,
        goal_shape=goal_shape("sequence", {"observation.state": 2}),
    )
    setup = prepare(walks, config, False, "sequence")
    every = torch.arange(len(setup.windows.observation_index))
    shown = setup.normalizer.unnormalize(GOAL, setup.windows.seen(every)[GOAL])[:, -1].numpy()
    walk = np.searchsorted(walks.episode_ends, setup.windows.observation_index[:, -1].numpy(), "right")
    last = walks.episode_ends - 1
    half = np.round((walks.episode_starts + last) / 2).astype(int)
    expected = np.hstack([toy.observation[half], toy.observation[last]])[walk]
    np.testing.assert_allclose(shown, expected, atol=1e-5)  # half way, then the end, of the own walk
    sides = np.sign(toy.observation[half][:, 1])
    assert set(sides) == {-1, 1} and np.abs(toy.observation[half][:, 1]).min() > 0.3  # beside the disc, on both sides

    def make() -> ShownGoal:
        return ShownGoal(navigation.NavigationEnv(), np.array([0.5, 0.4, 1, 0]), "observation.state", 2)

    episode = rollouts(build_policy(config), setup.normalizer, [0], make)[0]
    assert np.allclose(episode.observations[0], [0.5, 0.4, 1, 0, 0, 0])


@pytest.mark.parametrize(
    "claim",
    [
        "vqbet-future.success_rate >= vqbet-none.success_rate + 0.2",
        "vqbet-future.avg_max_coverage >= vqbet-none.avg_max_coverage + 0.4",
        "vqbet-future.avg_max_coverage >= bc-future.avg_max_coverage",
    ],
)
def test_the_stored_results_confirm_that_goals_are_followed(claim: str) -> None:
    rows = [row for path in (REPO / "benchmarks" / "results").glob("goals_*.json") for row in rows_of(path)]
    assert judge_hypothesis(Hypothesis.parse(claim), rows)["verdict"] == "confirmed"


# --- the command line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--goal-pose", "1,2"], "give x,y,angle"),
        (["--goal-pose", "0,0,0"], "not lie on the board"),
        (["--task", "navigation"], "navigation has no goal that can be chosen"),
    ],
)
def test_what_cannot_be_a_goal_is_one_line_and_status_2(
    arguments: list[str], why: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run), "--out", str(tmp_path / "e"), *arguments]) == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 1 and not (tmp_path / "e").exists()


def test_goals_stay_out_of_lerobot(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--out", str(tmp_path / "theirs")]) == 2
    assert "goal_shape" in capsys.readouterr().err and not (tmp_path / "theirs").exists()


def test_the_command_line_trains_with_goals(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "data.npz", **arrays())
    assert main(["train", "--data", data, "--steps", "3", "--goal", "final", "--out", str(tmp_path / "run")]) == 0
    assert read_plan(tmp_path / "run")[0].goal == "final"
