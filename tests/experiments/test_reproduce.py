"""Results that repeat, a week's page, and hypotheses that a machine judges."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO

from vqbet_course.cli import main
from vqbet_course.core.errors import BadInput
from vqbet_course.evaluation.results import Row, rows_of
from vqbet_course.experiments import design
from vqbet_course.experiments import reproduce as repeating
from vqbet_course.experiments.design import (
    Hypothesis,
    compute_budget,
    hypotheses,
    judge_hypothesis,
    judge_page,
    with_verdicts,
)
from vqbet_course.experiments.reproduce import compare_results, evaluation_command, recorded, reproduce, verdict_line
from vqbet_course.experiments.retro import retro
from vqbet_course.tasks.pusht.contract import PUSHT_TASK
from vqbet_course.training.runs import SHIPPED

PANEL = REPO / "benchmarks" / "results" / "panel.json"
MADE_BY = {"machine": "x86_64", "torch": "2.11.0", "gym-pusht": "0.1.8", "threads": 1, "python": "3.12.1"}


def episode(seed: int, success: bool, coverage: float = 0.5) -> dict[str, Any]:
    return {
        "seed": seed,
        "success": success,
        "max_coverage": 0.97 if success else coverage,
        "final_coverage": 0.97 if success else coverage / 2,
        "steps": 100,
        "failure": None if success else {"label": "planning", "evidence": "", "person": None},
    }


def evaluation(wins: int, n: int = 20, seed: int = 0, **changes: Any) -> dict[str, Any]:
    episodes = [episode(100_000 + i, i < wins) for i in range(n)]
    return {
        "schema": "vqbet_course/run/1",
        "contract": PUSHT_TASK.to_dict(),
        "perturb": [],
        "goal_pose": None,
        "training": {"seed": seed, "steps": 9},
        "seed": 100_000,
        "episodes": episodes,
        "made_by": MADE_BY,
        "metrics": {"success_rate": wins / n, "avg_max_coverage": 0.7, "avg_final_coverage": 0.5},
    } | changes


def write_run(folder: Path, wins: int, **changes: Any) -> Path:
    path = folder / "eval" / "seed-100000" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(evaluation(wins, **changes)))
    (folder / "model.safetensors").touch()
    return folder


def rows(method: str, wins: int, n: int = 40, seed: int = 1) -> Row:
    values = evaluation(wins, n)
    return Row(method, "PushT", seed, values["metrics"], values["episodes"], MADE_BY, Path("p.json"))


# --- hypotheses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "two", "sign", "margin"),
    [
        ("vqbet.success_rate >= act.success_rate + 0.05", "act", 1, 0.05),
        ("vqbet.success_rate>=diffusion-ddim10.success_rate - 0.1", "diffusion-ddim10", 1, -0.1),
        ("bc.avg_max_reward <= 0.5", None, -1, 0.5),
        ("vqbet.avg_final_coverage >= bc.avg_final_coverage", "bc", 1, 0.0),
    ],
)
def test_hypotheses_are_read(text: str, two: str | None, sign: int, margin: float) -> None:
    read = Hypothesis.parse(text)
    assert (read.two, read.sign, read.margin) == (two, sign, margin)


@pytest.mark.parametrize(
    "text",
    [
        "vqbet is better",
        "a.success_rate >=",
        "a.success_rate > 0.5",
        "a.speed >= 0.5",
        "a.success_rate >= b.avg_max_reward",
        "a.success_rate >= 0.5.5",
        "",
    ],
)
def test_hypotheses_that_say_nothing_to_a_machine(text: str) -> None:
    with pytest.raises(BadInput, match="hypothesis"):
        Hypothesis.parse(text)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("a.success_rate >= b.success_rate + 0.05", "confirmed"),
        ("b.success_rate >= a.success_rate", "refuted"),
        ("b.success_rate <= a.success_rate - 0.05", "confirmed"),
        ("a.success_rate >= 0.9", "inconclusive"),
        ("a.success_rate <= 0.5", "refuted"),
        ("a.success_rate >= a.success_rate", "confirmed"),
    ],
)
def test_verdicts(text: str, verdict: str) -> None:
    assert judge_hypothesis(Hypothesis.parse(text), [rows("a", 36), rows("b", 12)])["verdict"] == verdict


def test_few_starts_decide_nothing() -> None:
    found = judge_hypothesis(Hypothesis.parse("a.success_rate >= 0.5"), [rows("a", 9, n=9)])
    assert found["verdict"] == "inconclusive" and "9 shared starts" in found["why"]


def test_training_seeds_are_averaged_and_not_counted_as_starts() -> None:
    found = judge_hypothesis(Hypothesis.parse("a.success_rate >= 0.5"), [rows("a", 36, seed=s) for s in (1, 2, 3)])
    assert found["starts"] == 40


def test_a_method_without_results_is_named() -> None:
    with pytest.raises(BadInput, match="no results of 'c'; there are a"):
        judge_hypothesis(Hypothesis.parse("c.success_rate >= 0.5"), [rows("a", 3)])


def test_a_perturbed_evaluation_is_a_side_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path / "calm", 18)
    write_run(tmp_path / "shoved", 4, perturb=["shove=60", "friction=0.5"])
    text = "vqbet@shove=60+friction=0.5.success_rate >= vqbet.success_rate - 0.2"
    assert judge_hypothesis(Hypothesis.parse(text), rows_of(tmp_path))["verdict"] == "refuted"


def test_results_of_several_kinds_are_not_judged(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 10)
    write_run(tmp_path / "b", 12)
    with pytest.raises(BadInput, match="2 results of 'vqbet' are of several kinds"):
        judge_hypothesis(Hypothesis.parse("vqbet.success_rate >= 0.5"), rows_of(tmp_path))


def test_the_record_of_a_reproduction_is_no_result(tmp_path: Path) -> None:
    run = write_run(tmp_path, 10)
    (run / "eval" / "seed-100000" / "reproduced.json").write_text('{"schema": "vqbet_course/reproduced/1"}')
    assert len(rows_of(run / "eval" / "seed-100000")) == 1


def test_a_page_is_judged_and_judged_again() -> None:
    page = "- H1: `a.success_rate >= 0.5`\ntext\n- H2: `a.success_rate <= 0.5`\n"
    found = judge_page(page, [rows("a", 36)])
    once = with_verdicts(page, found)
    assert "`a.success_rate >= 0.5` — **confirmed**" in once and "**refuted**" in once and "\ntext\n" in once
    assert with_verdicts(once, found) == once
    assert "confirmed" not in with_verdicts(once, judge_page(once, [rows("a", 20)])).split("\n")[0]
    with pytest.raises(BadInput, match="no hypothesis"):
        hypotheses("# nothing here")


def test_the_command_writes_a_page_and_judges_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path)]
    assert main(["design", "mine", "--minutes", "2", *out]) == 0  # the stored panel says how fast
    assert main(["design", "other", "--minutes", "2", "--speeds", str(PANEL), *out]) == 0
    assert (tmp_path / "other.md").read_text() == (tmp_path / "mine.md").read_text().replace("mine", "other")
    page = (tmp_path / "mine.md").read_text()
    assert "= 12 min" in page and "measured in panel.json" in page
    assert main(["design", "mine", "--judge", str(PANEL), *out]) == 0
    said = capsys.readouterr().out
    assert said.count("H1 ") == said.count("H2 ") == 1
    assert any(f"**{v}**" in (tmp_path / "mine.md").read_text() for v in ("confirmed", "refuted", "inconclusive"))


def test_a_hypothesis_is_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    verdict = {"verdict": "refuted", "why": ""}
    monkeypatch.setattr(design, "judge_hypothesis", lambda hypothesis, _: judged.append(hypothesis.text) or verdict)
    (tmp_path / "mine.md").write_text("- H1: `vqbet.success_rate >= 0.5`\n- H2: `vqbet.success_rate <= 0.5`\n")
    assert list(design.judge_design("mine", tmp_path, PANEL)) == ["H1", "H2"]
    assert judged == ["vqbet.success_rate >= 0.5", "vqbet.success_rate <= 0.5"]


def test_a_budget_without_measurements_says_so() -> None:
    assert "not measured yet" in compute_budget(5)


# --- the week's page --------------------------------------------------------------------------------------------


def table(page: str) -> dict[tuple[str, str, str], list[str]]:
    """The rows of the page's table: {(method, task, trained on): its other cells}."""
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|"))
    return {(method, task, trained): others for method, task, trained, *others in rows}


def test_the_page_says_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), wins, seed=seed) for seed, wins in enumerate((10, 12, 14))]
    page = retro(runs, tmp_path / "retro.md")
    assert table(page)["vqbet", "PushT", "demo"] == ["60% ± 10% (3 seeds)", "20", "measured"]
    assert f"vqbet-course reproduce {runs[0]}" in page and "torch 2.11.0" in page
    assert re.search("24 of 24 .*planning", page) and (tmp_path / "retro.md").read_text() == page


def test_the_page_says_what_was_repeated(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), 10, seed=seed) for seed in range(3)]
    for run, same in zip(runs, (True, False), strict=False):
        verdict = json.dumps({"reproduced": same})
        (run / "eval" / "seed-100000" / "reproduced.json").write_text(verdict)
    page = retro(runs, tmp_path / "retro.md")
    assert re.search(r"\b3 saved .*\b2 were repeated.*\b1 of those", page)


def test_other_tasks_are_other_rows(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 10)
    write_run(tmp_path / "b", 5, perturb=["shove=60"])
    moved = PUSHT_TASK.to_dict() | {"resets": f"{PUSHT_TASK.resets}; goal at x 200, y 200, 0 rad"}
    write_run(tmp_path / "c", 1, contract=moved, training={"seed": 0, "goal": "future"})
    page = retro([tmp_path], tmp_path / "out.md")
    assert table(page)["vqbet", "PushT; shove=60", "demo"][0] == "25% (1 seed)"
    assert table(page)["vqbet-future", "PushT; goal at x 200, y 200, 0 rad", "demo"][0] == "5% (1 seed)"


def test_other_trainings_are_other_rows_and_a_seed_twice_is_asked_about(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 10)
    write_run(tmp_path / "b", 5, training={"seed": 0, "data": "/somewhere/human.zarr"})
    write_run(tmp_path / "c", 6, training={"seed": 0, "data": "/somewhere/human.zarr"})
    page = retro([tmp_path], tmp_path / "out.md")
    assert table(page)["vqbet", "PushT", "demo"][:2] == ["50% (1 seed)", "20"]
    assert table(page)["vqbet", "PushT", "human.zarr"][0] == "28% ± 4% (2 seeds)"
    questions = page.partition("## Open questions")[2]
    assert re.search("human.zarr.*2 results of 1 training seeds", questions)
    assert re.search("three training seeds.*demo.: 1;.*human.zarr.: 2", questions)


def test_rows_measured_elsewhere_are_marked(tmp_path: Path) -> None:
    (tmp_path / "vla.json").write_text(
        json.dumps([{"method": "a VLA", "task": "PushT", "success": [0.5, 0.7], "source": "our lab, week 7"}])
    )
    page = retro([write_run(tmp_path / "a", 10)], tmp_path / "out.md", tmp_path / "vla.json")
    assert table(page)["a VLA", "PushT", ""] == ["60% ± 14% (2 seeds)", "", "recorded: our lab, week 7"]


def test_a_result_says_which_progress_is_a_success(tmp_path: Path) -> None:
    """Two tasks may move the same robot; results from before it was written are PushT's, or of an own environment."""
    arm = PUSHT_TASK.to_dict() | {"robot": "an arm"}
    asked: list[tuple[dict[str, Any], str, float]] = [
        ({}, "PushT", 0.95),
        ({"success_progress": 0.5}, "PushT", 0.5),
        ({"success_progress": 0.5, "task": "own:Sweep"}, PUSHT_TASK.robot, 0.5),
        ({"task": "navigation"}, "navigation", 1.0),
        ({"contract": arm}, "an arm", 1.0),
    ]
    for number, (changes, title, success) in enumerate(asked):
        write_run(tmp_path / str(number), 10, **changes)
        (row,) = rows_of(tmp_path / str(number))
        assert (row.task, row.success_progress) == (title, success)


def test_a_reward_is_counted_by_the_progress_that_the_result_states(tmp_path: Path) -> None:
    write_run(tmp_path, 0, success_progress=0.5)  # every episode covers half
    assert (
        judge_hypothesis(Hypothesis.parse("vqbet.avg_max_reward >= 1.0"), rows_of(tmp_path))["verdict"] == "confirmed"
    )


def test_the_stored_results_can_be_read() -> None:
    found = rows_of(PANEL.parent)
    assert {"vqbet", "bc"} <= {row.method for row in found}
    assert all(len(row.episodes) == row.metrics["episodes"] for row in found)


# --- reproducing ------------------------------------------------------------------------------------------------


def test_the_same_episodes_where_versions_agree() -> None:
    before, after = evaluation(10), evaluation(10)
    assert compare_results(before, after)["reproduced"]
    after["episodes"][3]["max_coverage"] -= 1e-9
    verdict = compare_results(before, after)
    assert not verdict["reproduced"] and verdict["other_episodes"] == [100_003]
    assert verdict_line(verdict).startswith("NOT reproduced") and "100003" in verdict_line(verdict)


def test_a_metric_that_its_episodes_do_not_bear_out_is_named() -> None:
    before = evaluation(10)
    before["metrics"]["avg_final_coverage"] = 0.9
    verdict = compare_results(before, evaluation(10))
    assert not verdict["reproduced"] and verdict["other_episodes"] == []
    assert verdict["other_metrics"] == {"avg_final_coverage": [0.9, 0.5]}
    assert "avg_final_coverage" in verdict_line(verdict)


@pytest.mark.parametrize(("wins", "reproduced"), [(11, True), (9, True), (12, False), (8, False)])
def test_within_a_twentieth_where_versions_differ(wins: int, reproduced: bool) -> None:
    verdict = compare_results(evaluation(10), evaluation(wins, made_by=MADE_BY | {"torch": "3.0"}))
    assert verdict["reproduced"] is reproduced and verdict["differs"] == {"torch": ["2.11.0", "3.0"]}
    assert "2.11.0" in verdict_line(verdict) and "3.0" in verdict_line(verdict)


def test_it_is_asked_for_as_it_was(tmp_path: Path) -> None:
    before = evaluation(3, n=7, perturb=["shove=60"], goal_pose="180,300,1.0")
    assert evaluation_command(before, tmp_path / "eval" / "run.json", tmp_path, tmp_path / "o")[2:12] == [
        "--episodes",
        "7",
        "--seed",
        "100000",
        "--videos",
        "0",
        "--perturb",
        "shove=60",
        "--goal-pose",
        "180,300,1.0",
    ]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository whose environment is made in no time and whose evaluation says what is in a file."""
    repo = tmp_path / "repo"
    repo.mkdir()
    script = '#!/bin/sh\nwhile [ "$1" != --out ]; do shift; done\nmkdir -p "$2"\ncp answer.json "$2/run.json"\n'
    (repo / "tool").write_text(script)
    (repo / "Makefile").write_text(
        ".venv/.ready:\n\tmkdir -p .venv/bin && cp tool .venv/bin/vqbet-course && "
        "chmod +x .venv/bin/vqbet-course && touch .venv/.ready\n"
    )
    (repo / "answer.json").write_text(json.dumps(evaluation(10)))
    git = ["git", "-C", str(repo), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "all"], check=True)
    return repo


def test_a_fresh_clone_is_asked_again(repo: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 10)
    verdict = reproduce(run, repo=repo)
    assert verdict["reproduced"] and not verdict["uncommitted"]
    assert json.loads((run / "eval" / "seed-100000" / "reproduced.json").read_text()) == verdict
    (repo / "answer.json").write_text("changed, and not in the clone")
    assert reproduce(run, repo=repo)["uncommitted"]


def test_a_policy_that_comes_with_the_course_is_asked_again(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its evaluation is a stored result, and nothing is written beside it."""
    (tmp_path / "shipped.json").write_text(json.dumps(evaluation(10)))
    monkeypatch.setattr(repeating, "RESULTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(SHIPPED.iterdir())
    verdict = reproduce(Path("shipped"), repo=repo)
    assert verdict["reproduced"] and json.loads(Path("_runs/shipped/reproduced.json").read_text()) == verdict
    assert sorted(SHIPPED.iterdir()) == before


def test_a_metric_that_does_not_repeat(repo: Path, tmp_path: Path) -> None:
    assert not reproduce(write_run(tmp_path / "run", 11), repo=repo)["reproduced"]


def test_no_repository_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="clone failed"):
        reproduce(write_run(tmp_path / "run", 10), repo=tmp_path / "nothing")


# --- bad input --------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_what_cannot_be_done_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "no recorded evaluation" in refused(capsys, "reproduce", tmp_path / "empty")
    assert "no run.json" in refused(capsys, "retro", tmp_path / "empty", "--out", tmp_path / "r.md")
    (write_run(tmp_path / "run", 1) / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused(capsys, "reproduce", tmp_path / "run")
    assert "no such folder" in refused(capsys, "retro", tmp_path / "nowhere")
    assert "take letters" in refused(capsys, "design", "a/b", "--out", tmp_path)
    assert "no such design" in refused(capsys, "design", "new", "--judge", PANEL, "--out", tmp_path)
    (tmp_path / "old.md").write_text("mine")
    assert "exists already" in refused(capsys, "design", "old", "--out", tmp_path)
    assert (tmp_path / "old.md").read_text() == "mine"


@pytest.mark.parametrize("schema", ["vqbet_course/run/2", "vqbet_course/panel/0"])
def test_another_schema_is_refused(schema: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", 10, schema=schema)
    assert schema in refused(capsys, "reproduce", run)
    assert schema in refused(capsys, "retro", run, "--out", tmp_path / "r.md")


def test_several_evaluations_are_asked_about(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 10)
    shutil.copytree(run / "eval" / "seed-100000", run / "eval" / "other")
    with pytest.raises(BadInput, match="choose one with --eval: other, seed-100000"):
        recorded(run)
    assert recorded(run, "other")[0].parent.name == "other"


@pytest.mark.parametrize(
    "content", ["{", "{}", "[1]", '[{"method": "a"}]', '[{"method": "a", "task": "t", "success": [2], "source": "s"}]']
)
def test_records_that_are_none(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.json").write_text(content)
    run = write_run(tmp_path / "run", 10)
    assert "rows.json" in refused(
        capsys, "retro", run, "--recorded", tmp_path / "rows.json", "--out", tmp_path / "r.md"
    )
