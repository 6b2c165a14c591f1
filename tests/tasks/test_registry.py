"""The registry: which task a contract or a source is of, how a source is adapted, and a third task in a few lines."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import arrays, write_npz
from third_task import CODE, Reach

from vqbet_course import tasks
from vqbet_course.cli import main
from vqbet_course.core.budget import Budget
from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.demos import load_demos
from vqbet_course.experiments.panel import Job, Settings, run_job
from vqbet_course.tasks import augmented, get_task, open_source, register, task_of, with_drawings
from vqbet_course.tasks.navigation import NavigationEnv
from vqbet_course.tasks.pusht.contract import NAMES, PUSHT
from vqbet_course.tasks.pusht.geometry import block_keypoints
from vqbet_course.tasks.pusht.task import PushT
from vqbet_course.tasks.task import EnvironmentTask, Task
from vqbet_course.training.data import laptop_changes
from vqbet_course.training.runs import load_run

STATE, KEYPOINTS = "observation.state", "observation.environment_state"
STORED = {STATE: Field(5), "action": Field(2)}


# --- the tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pusht", "navigation", "block_push"])
def test_every_task_makes_environments_of_its_contract_alone_and_together(name: str) -> None:
    task = get_task(name)
    env, together = task.make_env(), task.make_vector_env(2)
    assert env.get_wrapper_attr("contract") == task.contract and task.horizon == task.contract.horizon
    one, _ = env.reset(seed=3)
    both, _ = together.reset(seed=3)
    action = np.full((2, 2), 0.5 * task.contract.action_bounds[1])
    one, *_, info = env.step(action[0])
    both, *_ = together.step(action)
    one, both = (seen if isinstance(seen, dict) else {"agent_pos": seen} for seen in (one, both))
    assert one.keys() == both.keys() and all(np.allclose(one[key], both[key][0]) for key in one)
    assert 0 <= task.progress(info) < 1 and not task.success(info)


def test_a_contract_belongs_to_the_task_whose_fields_it_has() -> None:
    image = {"observation.image": Field((96, 96, 3))}
    for mine in (
        PUSHT,
        replace(PUSHT, fps=20.0),
        replace(PUSHT, observation=image | PUSHT.observation),
        replace(PUSHT, observation=image),
    ):
        assert task_of(mine) is get_task("pusht")
    for other in (
        replace(PUSHT, action=Field(2)),
        replace(PUSHT, observation={STATE: Field(2, "px")}),
        replace(PUSHT, observation=PUSHT.observation | {"observation.effort": Field(1)}),
        Contract({STATE: Field(5)}, Field(2), 10.0),
    ):
        assert task_of(other) is None
    assert task_of(NavigationEnv().contract.data) is get_task("navigation")


def test_the_registry_loads_nothing_heavy() -> None:
    code = "import sys, vqbet_course.tasks; print([m for m in ('torch', 'numpy', 'gymnasium') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- sources ----------------------------------------------------------------------------------------------------


def mobile_base(scale: float = 1.0) -> dict[str, np.ndarray]:
    """x, y, yaw, v, w of a base that drives about, and v, w as its action: five numbers and two, and not PushT."""
    draw = np.random.default_rng(0)
    walk = np.cumsum(draw.normal(size=(90, 2)), axis=0)
    state = np.column_stack([scale * walk, draw.uniform(-3, 3, (90, 3))])
    return {"state": state, "action": draw.uniform(-1, 1, (90, 2)), "episode_ends": np.array([40, 90])}


@pytest.mark.parametrize(
    "changes",
    [
        mobile_base(),
        mobile_base(100.0),
        {"state": arrays()["state"] / 512},
        {"state": arrays()["state"] * [1, 1, 1, 1, 57.3]},
        {"action": arrays()["action"] / 512},
        {"state": arrays()["state"] * 3},
        {"state": np.full((120, 5), 6.0)},
    ],
)
def test_five_numbers_and_two_are_not_pushts_by_their_count(
    changes: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = open_source(write_npz(tmp_path / "d.npz", **changes), fps=20)
    assert source.contract.features() == STORED and task_of(source.contract) is None
    assert capsys.readouterr().err == ""


def test_states_spread_over_the_board_are_pushts_and_a_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_npz(tmp_path / "d.npz")
    source = open_source(path)
    said = capsys.readouterr().err
    assert said.startswith(f"{path}: read as PushT") and said.count("\n") == 1
    assert source.rate == 10 and source.contract == PUSHT and source.names == NAMES
    state = arrays()["state"]
    keypoints = block_keypoints(state[:, 2:]).astype(np.float32)
    assert np.array_equal(load_demos(source).observation[KEYPOINTS], keypoints)
    assert open_source(path, task="none").contract.features() == STORED
    assert open_source(path, task="pusht").contract == PUSHT and capsys.readouterr().err == ""
    assert open_source(path, fps=5, task="pusht").rate == 5


def test_a_folder_of_tables_is_recognised_as_an_npz_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.csv

    for episode, start in enumerate((0, 40)):
        (tmp_path / f"episode_{episode}").mkdir()
        rows = slice(start, start + 30)
        columns = {f"s{i}": arrays()["state"][rows, i] for i in range(5)}
        columns |= {f"action_{i}": arrays()["action"][rows, i] for i in range(2)}
        pyarrow.csv.write_csv(pa.table(columns), tmp_path / f"episode_{episode}" / "log.csv")
    assert open_source(str(tmp_path)).contract == PUSHT and "read as PushT" in capsys.readouterr().err


def test_a_converted_dataset_is_pushts_by_its_contract_and_without_one_by_its_corners(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_dataset(open_source(write_npz(tmp_path / "d.npz"), task="pusht"), tmp_path / "out", quiet=True)
    capsys.readouterr()
    assert open_source(str(out)).contract == PUSHT and capsys.readouterr().err == ""
    (out / "meta" / "contract.json").unlink()
    assert open_source(str(out)).contract == PUSHT and "keypoints" in capsys.readouterr().err


def test_sixteen_numbers_and_two_that_are_no_t_are_nobodys(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    path = tmp_path / "d.npz"
    np.savez(
        path,
        environment_state=draw.uniform(0, 512, (20, 16)),
        state=draw.uniform(0, 512, (20, 2)),
        action=draw.uniform(0, 512, (20, 2)),
        episode_ends=[20],
    )
    assert task_of(open_source(str(path), fps=10).contract) is None
    assert open_source(str(path), task="pusht").contract == PUSHT  # the user's word


def test_units_that_a_dataset_states_are_not_overruled(tmp_path: Path) -> None:
    stored = open_source(write_npz(tmp_path / "d.npz"), fps=10, task="none")
    out = write_dataset(replace(stored, units={STATE: "mm", "action": "mm"}), tmp_path / "out", quiet=True)
    assert task_of(open_source(str(out)).contract) is None
    with pytest.raises(BadInput, match="not demonstrations of PushT"):
        open_source(str(out), task="pusht")


# --- a third task -----------------------------------------------------------------------------------------------


@pytest.fixture
def third_task() -> Task:
    register(Reach())
    return get_task("reach")


@pytest.fixture
def third_data(tmp_path: Path) -> str:
    places = np.linspace(3, 0, 12)[:, None]
    np.savez(tmp_path / "reach.npz", state=places, action=-0.3 * places, episode_ends=[6, 12])
    return str(tmp_path / "reach.npz")


def test_a_third_task_is_registered_once(third_task: Task) -> None:
    assert task_of(Reach.contract.data) is third_task
    with pytest.raises(BadInput, match="registered already"):
        register(Reach())


def test_a_third_task_owns_what_it_is_told_to(third_task: Task, third_data: str) -> None:
    assert task_of(open_source(third_data, fps=10).contract) is None  # nothing says what the two numbers are
    source = open_source(third_data, task="reach")
    demos = load_demos(source)
    assert task_of(demos.contract) is third_task and demos.contract == Reach.contract.data
    with pytest.raises(BadInput, match="no augmentation for Reach"):
        augmented(demos, 8)
    with pytest.raises(BadInput, match="can draw"):
        with_drawings(source)
    with pytest.raises(BadInput, match="no scripted demonstrator"):
        third_task.demonstrator(0)


def test_a_task_in_a_file_of_ones_own_is_found_by_module_and_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, third_data: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_task.py").write_text(CODE)
    assert get_task("own_task:Reach").title == "Reach"
    plain = get_task("own_task:ReachEnv")
    assert plain.title == "own_task:ReachEnv" and plain.contract == Reach.contract
    assert load_demos(open_source(third_data, task="own_task:Reach")).units[STATE] == "m"


AUGMENTED = """

class Augmented(Reach):
    laptop = {"gpt_n_layer": 1, "scheduler_warmup_steps": 7}

    def augmentable(self, contract):
        return True

    def augment(self, demos, chunk_size):
        from dataclasses import replace
        ends = np.concatenate([demos.episode_ends, len(demos.action) + demos.episode_ends])
        seen = {name: np.concatenate([values, -values]) for name, values in demos.observation.items()}
        return replace(demos, action=np.concatenate([demos.action, -demos.action]), observation=seen, episode_ends=ends)
"""


def test_what_a_task_of_ones_own_changes_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration and its augmentation, in training, in a job of a panel, and when the run is loaded again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "augmented_task.py").write_text(CODE + AUGMENTED)
    places = np.tile(np.linspace(3, 0, 25)[:, None], (2, 1))
    np.savez(tmp_path / "line.npz", state=places, action=-0.3 * places, episode_ends=[25, 50])
    name = "augmented_task:Augmented"
    with monkeypatch.context() as process:
        process.setattr(tasks, "TASKS", dict(tasks.TASKS))
        demos = load_demos(open_source("line.npz", task=name))
        assert task_of(demos.contract) is get_task(name)
        assert len(augmented(demos, 8)) == 2 * len(demos)
        assert laptop_changes(demos)["scheduler_warmup_steps"] == 7
        settings = Settings("line.npz", demos=2, episodes=1, budget=Budget(steps=3), task=name)
        assert run_job(Job("bc", 0, demos, None, settings))[0]["settings"]["task"] == name
        assert main(["train", "--task", name, "--data", "line.npz", "--steps", "3", "--out", "run"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["gpt_n_layer"] == 1
    assert json.loads((tmp_path / "run" / "train_state.json").read_text())["augment"] is True
    with monkeypatch.context() as process:  # which has not heard of the task
        process.setattr(tasks, "TASKS", dict(tasks.TASKS))
        contract = load_run("run").contract
        assert task_of(contract) is get_task(name)


def test_the_newest_task_is_asked_first_and_an_environment_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    monkeypatch.setitem(tasks.TASKS, "other", OtherPushT())
    monkeypatch.setitem(tasks.TASKS, "plain", EnvironmentTask("plain", get_task("pusht").make_env))
    assert task_of(PUSHT) is get_task("other")
    monkeypatch.delitem(tasks.TASKS, "other")
    assert task_of(PUSHT) is get_task("pusht")


class OtherPushT(PushT):
    """PushT, trained otherwise."""

    name = "other"
