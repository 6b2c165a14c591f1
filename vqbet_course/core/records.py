"""What result files say, in one form: a row for every evaluated policy and training seed."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json
from vqbet_course.tasks.pusht.contract import PUSHT_TASK

SCHEMAS = ("vqbet_course/run/1", "vqbet_course/panel/1", "vqbet_course/goals/1", "vqbet_course/ablation/1")


def made_by() -> dict[str, Any]:
    """What the figures of this process depend on: its machine, and the versions of what it ran."""
    import torch

    packages = ("torch", "gym-pusht", "pymunk", "lerobot", "diffusers")
    return {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "python": platform.python_version(), **{name: version(name) for name in packages}}


@dataclass(frozen=True)
class Row:
    """One evaluation: method, task, training seed; figures, episodes, and what they depend on; what it was trained on,
    in words, and what was perturbed."""

    method: str
    task: str
    seed: int
    metrics: dict[str, Any]
    episodes: list[dict[str, Any]]
    made_by: dict[str, Any]
    path: Path
    trained: str = ""
    perturb: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The method as a hypothesis names it: `vqbet`, or `vqbet@shove=60` where something was perturbed."""
        return f"{self.method}@{'+'.join(self.perturb)}" if self.perturb else self.method


def rows_of(path: Path) -> list[Row]:
    """The rows of a result file, or of all result files in a folder and its folders.

    Raises BadInput for a folder without any, a damaged file, or one of another schema."""
    if path.is_dir():
        files = sorted({*path.rglob("run.json"), *path.rglob("panel.json"), *path.glob("*.json")})
        rows = [row for file in files if file.name in ("run.json", "panel.json") or is_result(file)
                for row in rows_of(file)]
        if not rows:
            raise BadInput(f"{path}: holds no run.json or panel.json; make one with vqbet-course eval or compare")
        return rows
    return read_json(path, lambda values: parse(values, path))


def is_result(path: Path) -> bool:
    """Whether a file says that it is one of ours, of any version."""
    kinds = {schema.rpartition("/")[0] for schema in SCHEMAS}
    return read_json(path, lambda v: isinstance(v, dict) and str(v.get("schema", "")).rpartition("/")[0] in kinds)


def parse(values: dict[str, Any], path: Path) -> list[Row]:
    """The rows of one file, none for what was never rolled out. Raises BadInput for another schema."""
    schema = values["schema"]
    if schema not in SCHEMAS:
        raise BadInput(f"schema {schema}; this version reads {', '.join(SCHEMAS)}: measure it again")
    found = values["results"] if schema.startswith("vqbet_course/panel") else [values]
    return [Row(v.get("policy") or v.get("arm") or method_of(v), task_of(v), seed_of(v), v["metrics"], v["episodes"],
                v["made_by"], path, trained_on(v), tuple(v.get("perturb", []))) for v in found if v["episodes"]]


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


def task_of(values: dict[str, Any]) -> str:
    """The task in a few words: what moves, what was perturbed, where the goal is.

    A result from before contracts were written into it is PushT's: there was no other task."""
    contract = values.get("contract") or PUSHT_TASK.to_dict()
    name = "PushT" if contract["robot"] == PUSHT_TASK.robot else contract["robot"]
    extras = [*values.get("perturb", []), *contract["resets"].split("; ")[1:]]
    return "; ".join([name, *extras])
