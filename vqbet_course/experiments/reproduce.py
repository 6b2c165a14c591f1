"""Check whether a result repeats: evaluate a saved run again in a fresh clone with a fresh environment."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json, write_json
from vqbet_course.core.places import RESULTS, ROOT
from vqbet_course.training.runs import comes_with_course, directory_of

SCHEMA = "vqbet_course/run/1"

REPEATABLE_METRICS = ("success_rate", "avg_max_reward", "avg_max_coverage", "avg_final_coverage")
"""Metrics that repeat exactly; latencies do not."""

TOLERANCE = 0.05
"""How far success rates may differ where versions or machine differ."""


def recorded(run: Path, name: str | None = None) -> tuple[Path, dict[str, Any]]:
    """The evaluation of a run to repeat: the one called `name`, or the only one; that of a run that comes with the course
    is among the stored results. Raises BadInput."""
    stored = RESULTS / f"{run.name}.json"
    found = [stored] if comes_with_course(run) else sorted(run.glob(f"eval/{name or '*'}/run.json"))
    if not found:
        raise BadInput(
            f"{run}: no recorded evaluation{f' {name}' if name else ''}; make one with: vqbet-course eval {run}"
        )
    if len(found) > 1:
        raise BadInput(
            f"{run}: has several evaluations; choose one with --eval: {', '.join(path.parent.name for path in found)}"
        )

    def parse(values: dict[str, Any]) -> dict[str, Any]:
        if values["schema"] != SCHEMA:
            raise BadInput(f"schema {values['schema']}, this version reads {SCHEMA}; evaluate the run again")
        return values

    return found[0], read_json(found[0], parse)


def reproduce(run: Path, name: str | None = None, repo: Path | None = None) -> dict[str, Any]:
    """Evaluate a run again in a fresh clone, and compare; writes reproduced.json beside the recorded run.json, or below
    `_runs` for a run that comes with the course.

    Raises BadInput for a run without a recorded evaluation or its weights, outside of a git repository, or when a
    step fails."""
    run = directory_of(run)
    path, before = recorded(run, name)
    if not (run / "model.safetensors").exists():
        raise BadInput(
            f"{run}: its model.safetensors is missing; finish the training with: vqbet-course train --resume {run}"
        )
    repo = repo or ROOT
    with tempfile.TemporaryDirectory() as folder:
        clone, copied, out = Path(folder) / "clone", Path(folder) / "run", Path(folder) / "eval"
        step("clone", "git", "clone", "--quiet", "--local", str(repo), str(clone))
        shutil.copytree(run, copied, ignore=shutil.ignore_patterns("eval"))
        step("environment", "make", "-s", "-C", str(clone), ".venv/.ready")
        arguments = evaluation_command(before, path, copied, out)
        step("evaluation", str(clone / ".venv/bin/vqbet-course"), *arguments, cwd=clone)
        after = read_json(out / "run.json", lambda values: values)
    verdict = compare_results(before, after) | {"uncommitted": uncommitted(repo)}
    beside = Path("_runs") / run.name if comes_with_course(run) else path.parent
    write_json(beside / "reproduced.json", verdict)
    return verdict


def evaluation_command(before: dict[str, Any], path: Path, run: Path, out: Path) -> list[str]:
    """The arguments of `vqbet-course` that evaluate a run as it was evaluated before, as the file at `path` says."""
    kept = str(path.with_name("split.json").resolve())
    split = ["--split", kept, "--part", before["split"]["part"]] if before.get("split") else []
    goal = ["--goal-pose", before["goal_pose"]] if before.get("goal_pose") else []
    task = ["--task", before["task"]] if before.get("task") else []
    perturb = [part for what in before["perturb"] for part in ("--perturb", what)]
    return [
        "eval",
        str(run),
        *task,
        "--episodes",
        str(len(before["episodes"])),
        "--seed",
        str(before["seed"]),
        "--videos",
        "0",
        *perturb,
        *goal,
        *split,
        "--out",
        str(out),
    ]


def compare_results(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Whether an evaluation repeats: every metric and episode where versions and machine agree, success within
    TOLERANCE otherwise.

    Returns what differs: versions, episodes by their seeds, and metrics, each as [recorded, now]."""
    what = ("seed", "success", "max_coverage", "final_coverage", "steps")
    episodes = [[{key: e[key] for key in what} for e in result["episodes"]] for result in (before, after)]
    other = [one["seed"] for one, two in zip(*episodes, strict=True) if one != two]
    versions, metrics = (changes(before[part], after[part]) for part in ("made_by", "metrics"))
    metrics = {name: pair for name, pair in metrics.items() if name in REPEATABLE_METRICS}
    success = [result["metrics"]["success_rate"] for result in (before, after)]
    repeats = abs(success[1] - success[0]) <= TOLERANCE + 1e-9 if versions else not (other or metrics)
    return {
        "schema": "vqbet_course/reproduced/1",
        "reproduced": repeats,
        "rule": f"success within {TOLERANCE:g}" if versions else "the same episodes",
        "differs": versions,
        "other_metrics": metrics,
        "other_episodes": other,
        "success": success,
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[Any]]:
    """The entries in which two records differ, each as [before, after]."""
    keys = sorted(before | after)
    return {key: [before.get(key), after.get(key)] for key in keys if before.get(key) != after.get(key)}


def verdict_line(verdict: dict[str, Any]) -> str:
    """A verdict in one line."""
    one, two = verdict["success"]
    word = "reproduced" if verdict["reproduced"] else "NOT reproduced"
    said = [
        f"{word} ({verdict['rule']}): success {one:.0%} recorded, {two:.0%} now",
        "; ".join(f"{key} {a} against {b}" for key, (a, b) in verdict["differs"].items())
        or "same versions and machine",
    ]
    if verdict["other_metrics"]:
        said.append(
            "metrics that differ: "
            + ", ".join(f"{name} {a:.4g} against {b:.4g}" for name, (a, b) in verdict["other_metrics"].items())
        )
    others = [*map(str, verdict["other_episodes"])]
    said.append(
        f"episodes that differ: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}"
        if others
        else "no episode differs"
    )
    return "; ".join(said)


def uncommitted(repo: Path) -> bool:
    """Whether the repository holds uncommitted changes, which a clone does not get."""
    return bool(
        subprocess.run(
            ["git", "-C", str(repo), "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
        ).stdout.strip()
    )


def step(what: str, *arguments: str, cwd: Path | None = None) -> None:
    """Run a command. Raises BadInput with its last line where it fails."""
    try:
        done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise BadInput(f"{what}: {arguments[0]} is not installed") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise BadInput(f"{what} failed (exit status {done.returncode}): {last}")
