"""The page on adding a task is true: its module is a task, its commands run, and it names all that a task can say."""

import json
import re
from pathlib import Path

import pytest
from gymnasium.utils.env_checker import check_env
from third_task import BLOCK, CODE, WORDS, Reach, ReachEnv, commands

from vqbet_course.cli import main
from vqbet_course.core.specs import TaskContract
from vqbet_course.tasks.task import Task

SMALL = {
    "demos": ["--episodes", "40"],
    "train": ["--steps", "3"],
    "eval": ["--episodes", "2"],
    "compare": ["--steps", "3", "--episodes", "2", "--policies", "bc"],
}
"""Options that make the commands of the page quick; of an option that is given twice, the last one counts."""


@pytest.mark.fast
def test_the_environment_keeps_gymnasiums_interface() -> None:
    check_env(ReachEnv(), skip_render_check=True)


@pytest.mark.fast
def test_the_page_names_all_that_a_task_can_say() -> None:
    own = {name for name in {*Task.__annotations__, *vars(Task)} if not name.startswith("_")}
    named = {word.partition("(")[0] for word in re.findall(r"`([^`]+)`", re.sub(BLOCK, "", WORDS, flags=re.S))}
    assert own - named == set()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that one is in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_page_run_in_the_folder_of_its_module(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they are typed, but SMALL; jobs of a panel run in other processes, which import the module."""
    (folder / "reach.py").write_text(CODE)
    assert [arguments[0] for arguments in commands()] == ["demos", "train", "eval", "compare"]
    for arguments in commands():
        assert main([*arguments, *SMALL[arguments[0]]]) == 0, arguments
    evaluation = json.loads((folder / "reach_run" / "eval" / "seed-100000" / "run.json").read_text())
    assert TaskContract.from_dict(evaluation["contract"]) == Reach.contract
    assert evaluation["task"] == "reach:Reach" and evaluation["metrics"]["episodes"] == 2
    panel = json.loads((folder / "reach_panel" / "panel.json").read_text())
    assert panel["settings"]["task"] == "reach:Reach" and panel["results"][0]["videos"] == []
    assert panel["results"][0]["ways_round"] is None and panel["results"][0]["two_routes"] is None
    said = capsys.readouterr().out + (folder / "reach_panel" / "report.html").read_text()
    assert "max progress" in said and "max coverage" not in said


def test_what_a_task_without_demonstrations_of_its_own_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment alone has no demonstrator that could make any, the task has one."""
    (folder / "reach_alone.py").write_text(CODE)
    asked = [["compare", "--policies", "bc"], ["train", "--steps", "3"], ["ablate", "layers"]]
    for kind, makes in (("ReachEnv", False), ("Reach", True)):
        for command in asked:
            assert main([*command, "--task", f"reach_alone:{kind}", "--out", "other"]) == 2
            said = capsys.readouterr().err
            assert "no demonstrations of its own; give --data SOURCE" in said and ("demos make" in said) is makes
