"""ALOHA: two scenes that repeat and render nothing unasked, a demonstrator that solves them, and what traces tell."""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vqbet_course.cli import main
from vqbet_course.core.errors import BadInput
from vqbet_course.demos import load_demos
from vqbet_course.evaluation.evaluate import write_videos
from vqbet_course.evaluation.videos import video_frames
from vqbet_course.rollout import Rollout
from vqbet_course.tasks import known_task, rendering, task_of
from vqbet_course.tasks.aloha.contract import INSERTION, SCENES, TRANSFER, AlohaScene
from vqbet_course.tasks.aloha.kinematics import FORWARD, LEFT, RIGHT, Hand, angles_of, hand_of, hand_positions
from vqbet_course.tasks.aloha.traces import hands_of, objects_of
from vqbet_course.tasks.task import IMAGE, Task

pytest.importorskip("gym_aloha", reason="ALOHA's simulator is not installed: pip install gym-aloha")

from vqbet_course.tasks.aloha import demonstrator, environment
from vqbet_course.tasks.aloha.demonstrator import demonstrate
from vqbet_course.tasks.aloha.environment import AlohaEnv

TASKS = {"aloha-transfer": known_task("aloha-transfer"), "aloha-insertion": known_task("aloha-insertion")}
TRANSFER_TASK, INSERTION_TASK = TASKS.values()
HOME = np.array([0, -0.96, 1.16, 0, -0.3, 0, 0.1] * 2)


def truth_of(episode: demonstrator.Demonstration) -> np.ndarray:
    """The trace (T, 7 n + 14) of a demonstration."""
    return np.hstack([episode.poses, episode.joints])


@pytest.fixture(autouse=True)
def nothing_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What renders in these tests fails, unless a test says otherwise."""
    monkeypatch.setattr(environment.mujoco.Physics, "render", lambda *args, **options: pytest.fail("rendered"))


# --- the arms ---------------------------------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize("arm", [LEFT, RIGHT])
def test_the_joint_angles_of_a_hand_bring_it_there(arm: int) -> None:
    draw = np.random.default_rng(arm)
    for _ in range(20):
        place = np.array([draw.uniform(-0.2, 0.0), draw.uniform(0.4, 0.6), draw.uniform(0.02, 0.25)])
        place[0] *= FORWARD[arm]
        hand = Hand(place, draw.uniform(0.8, 1.4), draw.uniform(-0.3, 0.3))
        found = hand_of(angles_of(hand, arm), arm)
        assert np.allclose(found.position, hand.position, atol=1e-9)
        assert (found.pitch, found.yaw) == pytest.approx((hand.pitch, hand.yaw))


@pytest.mark.fast
def test_the_hands_are_where_the_simulator_has_them() -> None:
    env = AlohaEnv()
    seen, _ = env.reset(seed=3)
    for joints in (HOME, HOME + 0.3 * np.sin(np.arange(14))):
        env.show(env.poses(), joints)
        for arm, name in enumerate(("left", "right")):
            link = env.physics.named.data.xpos[f"vx300s_{name}/gripper_link"]
            ahead = env.physics.named.data.xmat[f"vx300s_{name}/gripper_link"].reshape(3, 3)[:, 0]
            assert np.abs(link + 0.137 * ahead - hand_positions(joints)[arm]).max() < 1e-4


# --- the scenes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_scene_keeps_the_interface_of_gymnasium(task: Task) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that observations are unbounded
        check_env(task.make_env(), skip_render_check=True)


@pytest.mark.fast
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_an_episode_repeats_with_its_seed_and_starts_as_gym_aloha_does(scene: AlohaScene) -> None:
    def states(env: AlohaEnv, seed: int) -> np.ndarray:
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(HOME + 0.1 * np.sin(i))[0] for i in range(5)]
        return np.array([np.concatenate([*s.values()]) for s in seen])

    one, two = AlohaEnv(scene.name), AlohaEnv(scene.name)
    assert np.array_equal(states(one, 3), states(two, 3))
    assert not np.array_equal(states(one, 3)[0], states(one, 4)[0])
    assert np.allclose(states(one, 5)[0][: 7 * len(scene.objects)], environment.start_poses(scene, 5))


@pytest.mark.fast
def test_a_simulation_that_breaks_down_is_a_failure_of_the_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    env = AlohaEnv()
    before, _ = env.reset(seed=3)

    def breaks(*args: Any) -> None:
        raise environment.control.PhysicsError("diverged")

    with monkeypatch.context() as broken:
        broken.setattr(env.world, "step", breaks)
        seen, reward, terminated, truncated, info = env.step(HOME)
    assert terminated and not truncated and not info["is_success"] and info["diverged"] and reward == 0
    assert all(np.array_equal(seen[name], before[name]) for name in before)
    assert not env.reset(seed=3)[1]["diverged"] and not env.step(HOME)[2]
    for wrong in (np.full(14, np.nan), HOME[:7]):
        with pytest.raises(BadInput, match="14 finite numbers"):
            env.step(wrong)


@pytest.mark.fast
def test_a_copy_goes_on_as_the_scene_would() -> None:
    env = AlohaEnv()
    env.reset(seed=3)
    for _ in range(3):
        env.step(HOME + 0.05)
    other = TRANSFER_TASK.copy_env(env)
    for _ in range(3):
        one, two = env.step(HOME - 0.1)[0], other.step(HOME - 0.1)[0]
        assert all(np.allclose(one[name], two[name], atol=1e-9) for name in one)


def test_an_episode_starts_where_a_demonstration_starts() -> None:
    demos = load_demos(TRANSFER_TASK.demonstrations(2, 200_000))
    env = TRANSFER_TASK.starting_from(demos, "there").make_env()
    start = demos.observation["observation.environment_state"][demos.episode_starts[1]]
    assert np.allclose(env.reset(seed=1)[0]["environment_state"], start)
    assert env.get_wrapper_attr("contract").resets == "there"
    with pytest.raises(BadInput, match="cannot be started"):
        INSERTION_TASK.starting_from(demos, "there")


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_an_image_is_observed_only_where_a_policy_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "renders", lambda: True)
    TRANSFER_TASK.with_cameras([]).make_env().reset(seed=0)  # which renders nothing
    image = np.full((96, 96, 3), 51, np.uint8)
    monkeypatch.setattr(AlohaEnv, "image", lambda self, side: image[:side, :side])
    env = TRANSFER_TASK.with_cameras([IMAGE]).make_env()
    seen, _ = env.reset(seed=0)
    assert seen["image"].shape == (3, 96, 96) and np.allclose(seen["image"], 0.2) and list(seen)[-1] == "agent_pos"
    assert env.get_wrapper_attr("contract").data.observation[IMAGE].size == (96, 96, 3)
    with pytest.raises(BadInput, match="observes observation.image alone"):
        TRANSFER_TASK.with_cameras(["observation.images.wrist"])


@pytest.mark.fast
def test_without_rendering_libraries_a_scene_says_that_it_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "renders", lambda: False)
    assert AlohaEnv().render_mode is None
    with pytest.raises(BadInput, match="libegl1"):
        TRANSFER_TASK.with_cameras([IMAGE]).make_env()

    def fails(*args: Any, **options: Any) -> None:
        raise RuntimeError("No OpenGL rendering backend is available.")

    monkeypatch.setattr(environment.mujoco.Physics, "render", fails)
    env = AlohaEnv()
    env.reset(seed=0)
    with pytest.raises(BadInput, match="cannot render here"):
        env.render()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("variables", "files", "chosen"),
    [
        ({}, ["libEGL.so.1", "libOSMesa.so.8"], "egl"),
        ({}, ["libOSMesa.so.8"], "osmesa"),
        ({}, [], "disable"),
        ({"MUJOCO_GL": "osmesa"}, ["libEGL.so.1"], "osmesa"),
        ({"DISPLAY": ":0"}, [], None),
    ],
)
def test_the_renderer_is_one_that_this_machine_has(
    variables: dict[str, str], files: list[str], chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "os", type("Os", (), {"environ": dict(variables)}))
    monkeypatch.setattr(rendering, "can_be_loaded", files.__contains__)
    monkeypatch.setattr(sys, "platform", "linux")
    rendering.choose_renderer()
    assert rendering.os.environ.get("MUJOCO_GL") == chosen
    assert rendering.renders() == (chosen != "disable")


@pytest.mark.fast
def test_a_video_shows_every_fifth_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AlohaEnv, "render", lambda self: np.zeros((480, 480, 3), np.uint8))
    steps: dict[str, Any] = {"actions": HOME, "tokens": (1, 2), "decided": True, "coverage": 0.0, "intervention": ""}
    columns: dict[str, Any] = {name: [value] * 11 for name, value in steps.items()}
    episode = Rollout(7, **columns)
    assert len(list(video_frames(episode, TRANSFER_TASK))) == 3


@pytest.mark.fast
def test_where_nothing_can_be_rendered_the_videos_are_left_out_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    write_videos(tmp_path, [Rollout(7)], TRANSFER_TASK, quiet=True)
    assert not list(tmp_path.iterdir())
    said = capsys.readouterr().err
    assert said.startswith("no videos: ") and said.count("\n") == 1 and "libegl1" in said


@pytest.mark.slow
def test_a_video_frame_is_rendered_where_this_machine_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if not rendering.renders():
        pytest.skip("this machine cannot render")
    env = AlohaEnv()
    env.reset(seed=0)
    image = env.render()
    assert image.shape == (480, 480, 3) and image.dtype == np.uint8 and image.std() > 10
    frames = list(TRANSFER_TASK.draw(next(TRANSFER_TASK.demonstrations(1, 200_000).episodes()))())
    assert frames[0].shape == (96, 96, 3) and (frames[0] != frames[-1]).any()


# --- the demonstrator -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_demonstrator_solves_its_seeds_though_its_arms_shake(task: Any) -> None:
    episodes = [demonstrate(task.aloha, seed) for seed in range(200_000, 200_003)]
    assert all(episode.success.any() for episode in episodes)
    assert {task.behaviour_of(truth_of(episode), []) for episode in episodes} <= {*task.behaviours}
    assert all(episode.success[-9:].any() and len(episode.actions) < 300 for episode in episodes)
    left = [len(episode.actions) - int(np.argmax(episode.success)) for episode in episodes]  # from success on
    assert min(left) > task.laptop["action_chunk_size"]  # a frame before success is followed by a whole chunk


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_demonstrator_solves_nearly_all_seeds_in_all_its_ways(task: Any) -> None:
    episodes = [demonstrate(task.aloha, seed) for seed in range(200_000, 200_040)]
    won = [episode for episode in episodes if episode.success.any()]
    assert len(won) >= 36
    assert {task.behaviour_of(truth_of(episode), []) for episode in won} == {*task.behaviours}


def test_noise_shakes_what_is_executed_and_not_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[np.ndarray] = []
    original = AlohaEnv.step

    def recorded(self: AlohaEnv, action: np.ndarray) -> Any:
        executed.append(action)
        return original(self, action)

    monkeypatch.setattr(AlohaEnv, "step", recorded)
    monkeypatch.setitem(vars(demonstrator), "AFTER", 1)
    one = demonstrate(TRANSFER, 200_001)
    shaken = np.array(executed) - one.actions
    assert 0.005 < shaken[:, :6].std() < 0.03 and not shaken[:, [6, 13]].any()  # grippers do as they are told
    executed.clear()
    still = demonstrate(TRANSFER, 200_001, noise=0)
    assert np.array_equal(np.array(executed), still.actions)
    roughness = [np.abs(np.diff(episode.actions[:60, 7:13], axis=0)).max() for episode in (one, still)]
    assert roughness[0] < 1.5 * roughness[1]  # labels are as smooth as without noise
    again = demonstrate(TRANSFER, 200_001)
    assert np.array_equal(one.joints, again.joints) and not np.array_equal(one.joints[:50], still.joints[:50])


@pytest.mark.fast
def test_a_noise_that_is_none_is_refused() -> None:
    for noise in (-1, float("nan"), 3):
        with pytest.raises(BadInput, match="no number of radians"):
            demonstrate(TRANSFER, 0, noise=noise)
    with pytest.raises(BadInput, match="no option style"):
        TRANSFER_TASK.demonstrations(1, 0, style="left")


@pytest.mark.fast
def test_a_copy_of_the_demonstrator_goes_on_with_its_plan() -> None:
    import copy

    env = AlohaEnv()
    seen, _ = env.reset(seed=200_000)
    expert = TRANSFER_TASK.demonstrator(5)
    for _ in range(3):
        seen, *_ = env.step(expert(seen))
    other = copy.copy(expert)
    first = other(seen)
    assert np.array_equal(first, copy.copy(expert)(seen)) and np.array_equal(first, expert(seen))


# --- what a trace tells -----------------------------------------------------------------------------------------------


def moments(scene: AlohaScene, *heights: float, steps: int = 60, hands_at: bool = True, moved: float = 0.0) -> Rollout:
    """An episode whose objects are at these heights, each for so many steps, with both hands at them or at home."""
    objects = np.array([[0.1, 0.5, 0.02, 1, 0, 0, 0], [-0.1, 0.5, 0.02, 1, 0, 0, 0]])[: len(scene.objects)]
    truth: list[np.ndarray] = []
    for height in heights:
        for _ in range(steps):
            objects[:, 2], objects[:, 0] = height, objects[:, 0] + moved / steps / len(heights)
            joints = HOME.copy()
            if hands_at:
                for part, arm in enumerate(scene.arms):
                    place = objects[part, :3] + [0, 0, 0.001 * (len(truth) % 2)]
                    joints[7 * arm : 7 * arm + 6] = angles_of(Hand(place, 1.2, 0.0), arm)
            truth.append(np.concatenate([objects.reshape(-1), joints]))
    return Rollout(7, success=False, truth=truth, observations=truth, coverage=[0.0])


FAILED = {
    "never reached": moments(TRANSFER, 0.02, hands_at=False),
    "pushed away": moments(TRANSFER, 0.02, moved=0.2),
    "dropped": moments(TRANSFER, 0.02, 0.2, 0.02),
    "not lifted": moments(INSERTION, 0.02),
    "stuck": moments(TRANSFER, 0.02, 0.2, 0.2),
    "did not meet": moments(INSERTION, 0.02, *np.linspace(0.1, 0.3, 20), steps=5),
}


@pytest.mark.fast
@pytest.mark.parametrize("label", FAILED)
def test_a_failure_is_labelled_by_its_trace(label: str) -> None:
    episode = FAILED[label]
    task = TRANSFER_TASK if len(episode.truth[0]) == 21 else INSERTION_TASK
    contract = replace(task.contract, horizon=len(episode.truth))
    found = [name for name, rule in task.failure_rules.items() if rule(episode, contract, None)]
    assert found[0] == label
    longer = replace(task.contract, horizon=len(episode.truth) + 1)  # it ended early, without success
    assert next(name for name, rule in task.failure_rules.items() if rule(episode, longer, None)) == "diverged"


@pytest.mark.fast
def test_milestones_are_the_parts_of_the_task() -> None:
    def reached(episode: Rollout, task: Task) -> list[bool]:
        return [of(np.array(episode.truth)) for of in task.milestones.values()]

    assert reached(FAILED["never reached"], TRANSFER_TASK) == [False, False, False]
    assert reached(moments(TRANSFER, float(np.float32(0.05))), TRANSFER_TASK)[1] is False  # where objects start
    assert reached(FAILED["dropped"], TRANSFER_TASK) == [True, True, False]
    assert reached(FAILED["not lifted"], INSERTION_TASK) == [True, False, True, False, False]
    assert reached(FAILED["did not meet"], INSERTION_TASK) == [True] * 5


def test_a_demonstration_reaches_all_milestones_and_shows_a_way() -> None:
    for task in TASKS.values():
        truth = truth_of(demonstrate(task.aloha, 200_003))  # type: ignore[attr-defined]
        assert all(reached(truth) for reached in task.milestones.values())
        assert task.behaviour_of(truth, []) in task.behaviours
        assert task.behaviour_of(truth[:30], []) is None


# --- perturbations ----------------------------------------------------------------------------------------------------


def test_the_approached_cube_is_moved_once_and_observed_where_it_is() -> None:
    env = TRANSFER_TASK.perturbed(["move-on-approach=0.04"]).make_env()
    seen, _ = env.reset(seed=200_000)
    expert, moves = TRANSFER_TASK.demonstrator(0), []
    for step in range(60):
        before = seen
        seen, _, _, _, info = env.step(expert(seen))
        if info.get("intervention"):
            way = (seen["environment_state"] - before["environment_state"])[:2]
            moves.append((step, info["intervention"], float(np.linalg.norm(way))))
    (step, name, length), *more = moves
    assert step > 5 and name == "move-on-approach" and length == pytest.approx(0.04, abs=0.003) and not more


@pytest.mark.fast
def test_late_objects_are_observed_where_they_were() -> None:
    env = TRANSFER_TASK.perturbed(["late-objects=2"]).make_env()
    env.reset(seed=200_000)
    true, seen = [], []
    for _ in range(6):
        observation, _, _, _, info = env.step(HOME)
        true.append(info["true_observation"]["environment_state"])
        seen.append(observation["environment_state"])
        assert np.array_equal(observation["agent_pos"], info["true_observation"]["agent_pos"])
    assert np.array_equal(seen[2:], true[:-2]) and not np.array_equal(true[0], true[2])  # it falls onto the table


# --- data and commands ------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_demonstrations_are_the_tasks_own() -> None:
    for task in TASKS.values():
        assert task_of(task.contract.data) is task
        assert {*task.aloha.names} == {*task.contract.data.features()}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_policy_is_trained_and_evaluated_and_nothing_is_rendered_unless_videos_are_asked_for(tmp_path: Path) -> None:
    out, run = str(tmp_path / "demos"), str(tmp_path / "run")
    task = ["--task", "aloha-transfer"]
    assert main(["demos", "make", *task, "--episodes", "2", "--seed", "200000", "--out", out]) == 0
    small = ["n_vqvae_training_steps=5", "batch_size=32", "vqvae_batch_size=32"]
    options = [part for name in small for part in ("--set", name)]
    assert main(["train", "--data", out, "--steps", "12", *options, "--out", run]) == 0
    assert main(["eval", run, "--episodes", "1", "--videos", "0", "--seed", "200000"]) == 0
    written = json.loads((tmp_path / "run" / "eval" / "seed-200000" / "run.json").read_text())
    assert written["task"] == "aloha-transfer" and written["metrics"]["milestones"].keys() == {
        *TRANSFER_TASK.milestones
    }


@pytest.mark.fast
@pytest.mark.parametrize(
    ("command", "why"),
    [
        (
            ["train", "--task", "aloha-transfer", "--data", "demo", "--steps", "3"],
            "not demonstrations of ALOHA's transfer",
        ),
        (["demos", "make", "--task", "aloha-insertion", "--noise", "-1"], "noise -1"),
        (["demos", "make", "--task", "aloha-transfer", "--style", "left"], "no option style"),
        (["compare", "--task", "aloha-transfer"], "demos make --task aloha-transfer"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    command: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and why in said


@pytest.mark.fast
def test_without_the_simulator_the_task_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(type(TRANSFER_TASK), "needs", {"surely_not_installed": "gym-aloha"})
    assert main(["demos", "make", "--task", "aloha-transfer", "--out", "nowhere"]) == 2
    assert "pip install gym-aloha" in capsys.readouterr().err
    assert task_of(TRANSFER.contract.data) is TRANSFER_TASK  # its data are recognised all the same


@pytest.mark.fast
def test_the_hands_and_objects_of_a_trace_are_told_apart() -> None:
    truth = np.array(FAILED["not lifted"].truth)
    assert objects_of(truth).shape == (60, 2, 3) and hands_of(truth).shape == (60, 2, 3)
    assert np.abs(hands_of(truth)[0, ::-1] - objects_of(truth)[0]).max() < 1e-9
