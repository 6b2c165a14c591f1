"""Result files of all kinds, read as rows: one evaluation each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json
from vqbet_course.tasks import DEFAULT_TASK, TASKS, get_task
from vqbet_course.tasks.task import Task

SCHEMAS = (
    "vqbet_course/run/1",
    "vqbet_course/panel/1",
    "vqbet_course/panel/2",
    "vqbet_course/goals/1",
    "vqbet_course/ablation/1",
)


@dataclass(frozen=True)
class Row:
    """One evaluation: method, task, training seed; metrics, episodes, and what they depend on; what it was trained on,
    in words; perturbations; the progress that counts as success."""

    method: str
    task: str
    seed: int
    metrics: dict[str, Any]
    episodes: list[dict[str, Any]]
    made_by: dict[str, Any]
    path: Path
    trained: str = ""
    perturb: tuple[str, ...] = ()
    success_progress: float = 1.0

    @property
    def name(self) -> str:
        """The method as a hypothesis names it: `vqbet`, or `vqbet@shove=60` where something was perturbed."""
        return f"{self.method}@{'+'.join(self.perturb)}" if self.perturb else self.method


def rows_of(path: Path) -> list[Row]:
    """The rows of a result file, or of all result files in a folder and its folders.

    Raises BadInput for a folder without any, a damaged file, or one of another schema."""
    if path.is_dir():
        files = sorted({*path.rglob("run.json"), *path.rglob("panel.json"), *path.glob("*.json")})
        rows = [
            row for file in files if file.name in ("run.json", "panel.json") or is_result(file) for row in rows_of(file)
        ]
        if not rows:
            raise BadInput(f"{path}: holds no run.json or panel.json; make one with vqbet-course eval or compare")
        return rows
    return read_json(path, lambda values: parse_result(values, path))


def is_result(path: Path) -> bool:
    """Whether a file says that it is one of ours, of any version."""
    kinds = {schema.rpartition("/")[0] for schema in SCHEMAS}
    return read_json(path, lambda v: isinstance(v, dict) and str(v.get("schema", "")).rpartition("/")[0] in kinds)


def parse_result(values: dict[str, Any], path: Path) -> list[Row]:
    """The rows of one file, none for what was never rolled out. Raises BadInput for another schema."""
    schema = values["schema"]
    if schema not in SCHEMAS:
        raise BadInput(f"schema {schema}; this version reads {', '.join(SCHEMAS)}: measure it again")
    found = values["results"] if schema.startswith("vqbet_course/panel") else [values]
    return [
        Row(
            v.get("policy") or v.get("arm") or method_of(v),
            task_in_words(v),
            seed_of(v),
            v["metrics"],
            v["episodes"],
            v["made_by"],
            path,
            trained_on(v),
            tuple(v.get("perturb", [])),
            success_progress_of(v),
        )
        for v in found
        if v["episodes"]
    ]


def trained_on(values: dict[str, Any]) -> str:
    """Which demonstrations a policy learned from, and for how long where all of them had the same."""
    settings = values.get("settings", {})
    data = settings.get("data") or values["training"].get("data") or "demo"
    budget = settings.get("budget", {})
    spent = f"{budget['minutes']:g} min" if budget.get("minutes") else f"{budget['steps']} steps" if budget else ""
    demos = settings.get("demos") and f"{settings['demos']} demonstrations"
    return ", ".join(filter(None, [Path(data).name, demos, spent]))


def method_of(values: dict[str, Any]) -> str:
    """What a run.json evaluates."""
    goal = values["training"].get("goal", "none")
    return "vqbet" if goal == "none" else f"vqbet-{goal}"


def seed_of(values: dict[str, Any]) -> int:
    """The training seed; a panel's row says it itself, an evaluation in how it was trained."""
    return int(values["seed"] if "policy" in values else values["training"]["seed"])


def task_in_words(values: dict[str, Any]) -> str:
    """The task in a few words: its title or what moves, what was perturbed, where the goal is.

    A result from before contracts were written into it is of the default task: there was no other."""
    contract = values.get("contract") or get_task(DEFAULT_TASK).contract.to_dict()
    name = task_name(values)
    title = get_task(name).title if name in TASKS else contract["robot"]
    return "; ".join([title, *values.get("perturb", []), *contract["resets"].split("; ")[1:]])


def task_name(values: dict[str, Any]) -> str:
    """The name of the task that a result is about. A result from before it was written is of the default task, or of
    an environment of somebody's own, whose name is what moves there."""
    named = values.get("task") or values.get("settings", {}).get("task")
    robot = get_task(DEFAULT_TASK).contract.robot
    moves = values["contract"]["robot"] if "contract" in values else robot
    return named or (DEFAULT_TASK if moves == robot else moves)


def progress_name_of(values: dict[str, Any]) -> str:
    """The progress of a result's task in a word; where it was not written into the result, that of its task."""
    if "progress_name" in values:
        return str(values["progress_name"])
    name = task_name(values)
    return get_task(name).progress_name if name in TASKS else Task.progress_name


def success_progress_of(values: dict[str, Any]) -> float:
    """The progress that counts as success in a result; where it was not written into it, that of its task."""
    if "success_progress" in values:
        return float(values["success_progress"])
    name = task_name(values)
    return get_task(name).success_progress if name in TASKS else 1.0
