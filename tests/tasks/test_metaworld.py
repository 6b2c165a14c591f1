"""MetaWorld: fifty names of one family, a target that is observed, scripted demonstrations with recovery, and what goes
wrong. Rendering is tested where a library for it is installed."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("metaworld", reason="MetaWorld is not installed: pip install 'vqbet_course[arms]'")

from gymnasium.utils.env_checker import check_env

from vqbet_course.cli import main
from vqbet_course.core.errors import BadInput, CannotRender
from vqbet_course.core.specs import Contract
from vqbet_course.demos import load_demos
from vqbet_course.evaluation.evaluate import can_be_drawn, write_videos
from vqbet_course.evaluation.videos import video_frames
from vqbet_course.rollout import Rollout
from vqbet_course.tasks import get_task, known_task, open_source, task_of
from vqbet_course.tasks.listing import listing_of_tasks
from vqbet_course.tasks.metaworld import MEASURED, METAWORLD_NAMES
from vqbet_course.tasks.metaworld.contract import FIRST, METAWORLD, TARGET
from vqbet_course.tasks.metaworld.demonstrator import scripted_episode
from vqbet_course.tasks.metaworld.environment import MetaWorldEnv
from vqbet_course.tasks.metaworld.task import LOOSE, MetaWorld
from vqbet_course.tasks.metaworld.traces import FAILURE_RULES
from vqbet_course.tasks.rendering import renders

PICK, DRAWER = get_task("metaworld-pick-place"), get_task("metaworld-drawer-open")
OBJECTS, STATE = METAWORLD.observation
SEED = 200_000


@pytest.fixture(scope="module")
def env() -> MetaWorldEnv:
    return MetaWorldEnv("pick-place")


def stacked(observation: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([observation["environment_state"], observation["agent_pos"]])


# --- the names --------------------------------------------------------------------------------------------------------


def test_the_names_are_metaworlds() -> None:
    from metaworld.env_dict import ENV_CLS_MAP
    from metaworld.policies import ENV_POLICY_MAP

    assert len({*METAWORLD_NAMES}) == 50 and {f"{name}-v3" for name in METAWORLD_NAMES} == {*ENV_CLS_MAP}
    assert {*ENV_CLS_MAP} == {*ENV_POLICY_MAP} and {*LOOSE.split()} <= {*METAWORLD_NAMES}


@pytest.mark.parametrize("asked", ["metaworld-fold-laundry", "metaworld"])
def test_an_unknown_member_is_refused_with_the_names(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demos", "make", "--task", asked, "--out", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(f"metaworld-{name}" in said for name in METAWORLD_NAMES)
    with pytest.raises(BadInput, match="metaworld-NAME"):
        get_task("fold-laundry")


def test_the_family_is_listed_once() -> None:
    lines = listing_of_tasks()
    assert sum(line.startswith("metaworld") for line in lines) == 2  # the family, and the member that is described
    assert any(all(name in line for name in METAWORLD_NAMES) for line in lines)


def test_data_of_one_member_are_no_others() -> None:
    for name in MEASURED:
        assert task_of(get_task(f"metaworld-{name}").contract.data) is get_task(f"metaworld-{name}")
    assert task_of(METAWORLD) is None  # whose numbers they are is not said
    source = PICK.demonstrations(1, SEED)
    with pytest.raises(BadInput, match="demonstrations of metaworld-pick-place, not of metaworld-drawer-open"):
        DRAWER.adapt(source, asked=True)
    nameless = DRAWER.adapt(replace(source, names={}), asked=True)
    assert nameless is not None and task_of(nameless.contract) is DRAWER


def test_without_the_package_data_are_recognised_and_environments_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetaWorld, "needs", {"metaworld_that_is_missing": "vqbet_course[arms]"})
    assert task_of(PICK.contract.data) is known_task("metaworld-pick-place")
    with pytest.raises(BadInput, match=r"install it with: pip install 'vqbet_course\[arms\]'"):
        get_task("metaworld-pick-place")


# --- the environment --------------------------------------------------------------------------------------------------


def test_an_environment_keeps_the_interface_and_returns_what_it_says() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a bound is infinite
        check_env(PICK.make_env(), skip_render_check=True)


def test_an_episode_repeats_with_its_seed_and_shows_where_the_target_is(env: MetaWorldEnv) -> None:
    def states(seed: int) -> np.ndarray:
        first, _ = env.reset(seed=seed)
        return np.array(
            [stacked(s) for s in (first, *(env.step(np.array([0.4, -0.2, 0.3, 1.0]))[0] for _ in range(5)))]
        )

    one, other = states(3), states(4)
    assert np.array_equal(one, states(3))
    assert np.ptp(one[:, TARGET], axis=0).max() == 0 and np.abs(one[0] - other[0])[TARGET].max() > 0.01
    assert np.abs(one[0] - other[0])[FIRST].max() > 0.01 and np.abs(np.diff(one[:, 17:20], axis=0)).max() > 0.001
    with pytest.raises(BadInput, match="four finite numbers"):
        env.step(np.array([0.0, np.nan, 0.0, 0.0]))


def test_a_copy_goes_on_as_the_original_would(env: MetaWorldEnv) -> None:
    env.reset(seed=5)
    demonstrator = PICK.demonstrator(0)
    observation: Any = env.observation()
    for _ in range(30):
        observation, *_ = env.step(demonstrator(observation))
    other = PICK.copy_env(env)
    before = env.observation()
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 4))
    theirs = [stacked(other.step(action)[0]) for action in actions]
    assert np.array_equal(stacked(before), stacked(env.observation()))  # a world of its own
    assert np.array_equal(theirs, [stacked(env.step(action)[0]) for action in actions])


# --- the demonstrator -------------------------------------------------------------------------------------------------


def test_a_demonstration_repeats_ends_well_and_shows_the_way_back(env: MetaWorldEnv) -> None:
    made, still, again = (scripted_episode(env, SEED + 1, noise) for noise in (0.1, 0.0, 0.1))
    assert made is not None and again is not None and still is not None
    assert all(np.array_equal(made[name], again[name]) for name in made)
    assert made["next.success"].any() and made["next.done"].sum() == 1 and made["next.reward"].max() == 1
    assert np.abs(made[STATE][:45] - still[STATE][:45]).max() > 0.01  # the hand was disturbed
    demonstrator = PICK.demonstrator(0)
    for objects, state, action in zip(made[OBJECTS], made[STATE], made["action"], strict=True):
        wanted = demonstrator({"environment_state": objects, "agent_pos": state})
        assert np.abs(wanted - action).max() < 0.02  # and what is recorded answers what was seen, without the noise
    with pytest.raises(BadInput, match="noise 7"):
        PICK.demonstrations(1, 0, noise=7.0)
    with pytest.raises(BadInput, match="no option style"):
        PICK.demonstrations(1, 0, style="left")


@pytest.mark.slow
@pytest.mark.parametrize("name", METAWORLD_NAMES)
def test_every_task_is_demonstrated(name: str) -> None:
    demos = load_demos(get_task(f"metaworld-{name}").demonstrations(2, SEED))
    assert len(demos) == 2 and task_of(demos.contract) is get_task(f"metaworld-{name}")


def test_demonstrations_that_were_written_are_found_to_be_the_tasks_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "demos")
    assert main(["demos", "make", "--task", "metaworld-drawer-open", "--episodes", "1", "--out", out]) == 0
    assert main(["demos", "inspect", out]) == 0 and "drawer-open.object_1_x" in capsys.readouterr().out
    assert task_of(open_source(out).contract) is DRAWER
    assert (
        main(["train", "--data", out, "--task", "metaworld-pick-place", "--steps", "3", "--out", str(tmp_path / "run")])
        == 2
    )
    assert "leave --task metaworld-pick-place out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_policy_is_trained_evaluated_compared_and_exported_by_the_same_commands(tmp_path: Path) -> None:
    task, demos, run = ["--task", "metaworld-drawer-open"], str(tmp_path / "demos"), str(tmp_path / "run")
    assert main(["demos", "make", *task, "--episodes", "3", "--out", demos]) == 0
    assert main(["train", "--data", demos, "--steps", "3", "--out", run]) == 0
    assert main(["eval", run, "--episodes", "1", "--videos", "0", "--out", str(tmp_path / "eval")]) == 0
    result = json.loads((tmp_path / "eval" / "run.json").read_text())
    assert Contract.from_dict(result["contract"]["data"]).difference(DRAWER.contract.data) is None
    small = ["--steps", "3", "--episodes", "1", "--policies", "bc", "--demos", "2", "--seeds", "1", "--videos", "0"]
    assert main(["compare", *task, "--data", demos, *small, "--out", str(tmp_path / "panel")]) == 0
    assert main(["export", run]) == 0


# --- perturbations ----------------------------------------------------------------------------------------------------


def perturbed(asked: str, steps: int = 70) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """What was so, what was observed, and what disturbed, at each step of the demonstrator's way."""
    env, demonstrator = PICK.perturbed([asked]).make_env(), PICK.demonstrator(0)
    seen, _ = env.reset(seed=6)
    found = []
    for _ in range(steps):
        seen, _, over, _, info = env.step(demonstrator(seen))
        found.append((stacked(info.get("true_observation", seen)), stacked(seen), info.get("intervention", "")))
        if over:
            break
    return found


def test_the_hand_is_bumped_by_the_amount() -> None:
    calm = np.array([true for true, _, _ in perturbed("arm-bump=0", 60)])
    bumped = perturbed("arm-bump=0.1", 60)
    steps = [step for step, (_, _, what) in enumerate(bumped) if what == "arm-bump"]
    assert len(steps) == 10 and np.ptp(steps) == 9
    way = np.linalg.norm(np.array([true for true, _, _ in bumped])[steps[-1], 17:20] - calm[steps[-1], 17:20])
    assert 0.02 < way < 0.12 and np.array_equal(calm[: steps[0]], [true for true, _, _ in bumped][: steps[0]])


def test_the_approached_object_is_shoved_once_and_brought_all_the_same() -> None:
    calm, shoved = perturbed("object-shove=0", 150), perturbed("object-shove=0.05", 150)
    steps = [step for step, (_, _, what) in enumerate(shoved) if what]
    assert len(steps) == 1
    away = np.linalg.norm(shoved[steps[0]][0][FIRST] - calm[steps[0] - 1][0][FIRST])
    assert away == pytest.approx(0.05, abs=0.005)
    assert "object-shove" not in DRAWER.perturbations


def test_late_objects_are_observed_where_they_were() -> None:
    found = perturbed("late-objects=3", 60)
    true, seen = np.array([t for t, _, _ in found]), np.array([s for _, s, _ in found])
    assert np.array_equal(seen[10:, :17], true[7:-3, :17]) and np.array_equal(seen[:, 17:], true[:, 17:])
    assert len(np.unique(true[:, FIRST], axis=0)) > 3


def test_noise_is_in_the_units_of_the_arm() -> None:
    true, seen, _ = perturbed("observation-noise", 1)[0]
    assert 0 < np.abs(true - seen).max() < 0.05  # metres, not pixels


# --- failures ---------------------------------------------------------------------------------------------------------


def failed(objects: list[list[float]], hands: list[list[float]]) -> Rollout:
    """An episode in which the object and the hand were here, in metres, and the target at (0, 0.8, 0.2)."""
    still = [[0.0, 0.0, 0.0, 1.0], [0.0] * 7, [0.0, 0.8, 0.2]]
    truth = [np.array([*o, *sum(still, []), *h, 1.0]) for o, h in zip(objects, hands, strict=True)]
    return Rollout(7, truth=truth, contact=[1] * len(truth), coverage=[0.0])


PLACE, THERE = [0.0, 0.6, 0.02], [0.0, 0.6, 0.1]
WANDERING = [[0.3, 0.6, 0.1 + 0.002 * i] for i in range(100)]
FAILED = {
    "never reached": failed([PLACE] * 100, WANDERING),
    "dropped": failed([PLACE, [0.0, 0.65, 0.12], [0.0, 0.68, 0.02]], [THERE, [0.0, 0.65, 0.14], [0.2, 0.6, 0.3]]),
    "pushed away": failed([PLACE, [0.0, 0.5, 0.02]], [[0.0, 0.62, 0.03], THERE]),
    "not moved": failed([PLACE] * 2, [[0.0, 0.62, 0.05], THERE]),
    "stuck": failed([PLACE, *[[0.0, 0.65, 0.03]] * 100], [[0.0, 0.62, 0.05], *[[0.0, 0.66, 0.05]] * 100]),
}


@pytest.mark.fast
@pytest.mark.parametrize("label", FAILED)
def test_a_failure_is_labelled_by_its_trace(label: str) -> None:
    rules = FAILURE_RULES.items()
    assert next((name for name, rule in rules if rule(FAILED[label], PICK.contract, None)), None) == label


# --- rendering --------------------------------------------------------------------------------------------------------


def test_without_a_library_one_line_takes_the_place_of_videos(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    assert not can_be_drawn(PICK)
    said = capsys.readouterr().err
    assert said.startswith("no videos: ") and said.count("\n") == 1 and "libegl1" in said
    with pytest.raises(BadInput, match="observes images: .*libegl1"):
        PICK.with_cameras(["observation.image"])
    with pytest.raises(BadInput, match="no camera observation.wrist"):
        PICK.with_cameras(["observation.wrist"])
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(MetaWorldEnv, "render", failing_render)
    episode = Rollout(3, actions=[np.zeros(4)], coverage=[0.0], tokens=[()], decided=[True], intervention=[""])
    write_videos(tmp_path, [episode], PICK, quiet=True)
    assert "no driver" in capsys.readouterr().err and not [*tmp_path.iterdir()]


def failing_render(self: MetaWorldEnv) -> np.ndarray:
    raise CannotRender("no driver")


def test_a_video_has_every_eighth_step_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetaWorldEnv, "render", lambda self: np.zeros((256, 256, 3), np.uint8))
    n = 20
    episode = Rollout(3, actions=[np.zeros(4)] * n, coverage=[0.0] * n, tokens=[()] * n, decided=[True] * n)
    assert len([*video_frames(episode, PICK)]) == 4  # steps 0, 8, 16 and 19


@pytest.mark.slow
def test_a_camera_shows_the_arm_right_side_up() -> None:
    if not renders():
        pytest.skip("no library to render with")
    world = PICK.with_cameras(["observation.image"]).make_env()
    first, _ = world.reset(seed=SEED)
    for _ in range(10):
        seen, *_ = world.step(np.array([1.0, 1.0, -1.0, 0.0]))
    assert seen in world.observation_space and (first["image"] != seen["image"]).any()
