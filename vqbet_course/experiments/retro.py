"""The weekly report: what was measured, how far it repeats, and what is still open."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json, write_text
from vqbet_course.evaluation.results import Row, rows_of


def retro(paths: Sequence[Path], out: Path, recorded: Path | None = None) -> str:
    """Write the weekly report of these result folders or files; returns it.

    recorded: a JSON list of rows measured elsewhere, each with method, task, success (a list, one a seed) and source.
    Raises BadInput for paths without results and for malformed records."""
    rows = [row for path in paths for row in existing_rows(path)]
    noted = read_recorded(recorded) if recorded else []
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.task, row.trained), []).append(row)
    lines = [
        "# Retro",
        "",
        "| method | task | trained on | success, mean ± std (n seeds) | episodes a seed | |",
        "|---|---|---|---|---|---|",
    ]
    for (method, task, trained), found in groups.items():
        counts = sorted({len(row.episodes) for row in found})
        lines.append(
            f"| {method} | {task} | {trained} | {spread([r.metrics['success_rate'] for r in found])} | "
            f"{', '.join(map(str, counts))} | measured |"
        )
    lines += [f"| {r['method']} | {r['task']} | | {spread(r['success'])} | | recorded: {r['source']} |" for r in noted]
    lines += ["", "**Reproducibility.** " + reproducibility(rows), "", "## Open questions", ""]
    lines += [f"- {question}" for question in open_questions(groups)] + [""]
    page = "\n".join(lines)
    write_text(out, page)
    return page


def existing_rows(path: Path) -> list[Row]:
    """The result rows of a file or folder. Raises BadInput where it does not exist."""
    if not path.exists():
        raise BadInput(f"{path}: no such folder or result file")
    return rows_of(path)


def spread(values: Sequence[float]) -> str:
    """Mean, standard deviation over seeds (with n - 1; none for a single one) and their number."""
    deviation = f" ± {np.std(values, ddof=1):.0%}" if len(values) > 1 else ""
    return f"{np.mean(values):.0%}{deviation} ({len(values)} seed{'s' if len(values) > 1 else ''})"


def reproducibility(rows: Sequence[Row]) -> str:
    """The versions behind the results, how many of them were repeated, and the command that repeats one."""
    versions = sorted(
        {
            f"{r.made_by['machine']}, torch {r.made_by['torch']}, gym-pusht {r.made_by['gym-pusht']}, "
            f"{r.made_by['threads']} thread(s)"
            for r in rows
        }
    )
    saved = sorted({row.path for row in rows if row.path.name == "run.json"})
    said = [f"Made on {'; '.join(versions)}."]
    if saved:
        verdicts = [
            read_json(path, lambda v: bool(v["reproduced"]))
            for path in (run.with_name("reproduced.json") for run in saved)
            if path.exists()
        ]
        said.append(
            f"Of {len(saved)} saved evaluation(s), {len(verdicts)} were repeated in a fresh clone, and "
            f"{sum(verdicts)} of those gave the same result."
        )
        said.append(f"To repeat one: `vqbet-course reproduce {saved[0].parent.parent.parent}`.")
    return " ".join(said)


def open_questions(groups: dict[tuple[str, str, str], list[Row]]) -> list[str]:
    """What these results leave open: about all rows together, then about each."""
    few, lost, own = [], [], []
    for (method, task, trained), rows in groups.items():
        about = f"{method}, {task}" + (f" ({trained})" if trained else "")
        seeds = [row.seed for row in rows]
        if len(rows) < 3:
            few.append(f"{about}: {len(rows)}")
        if len(set(seeds)) < len(seeds):
            own.append(f"{about}: {len(seeds)} results of {len(set(seeds))} training seeds; which are the same?")
        below = np.mean([r.metrics["avg_max_coverage"] - r.metrics["avg_final_coverage"] for r in rows])
        if below > 0.1:
            lost.append(f"{about}: {below:.2f}")
        labels = [e["failure"]["label"] for r in rows for e in r.episodes if e.get("failure")]
        if labels:
            most = max(set(labels), key=lambda label: (labels.count(label), label))
            asked = "have no label; what do videos show?" if most == "unlabelled" else f"are labelled {most}; why?"
            own.append(f"{about}: {labels.count(most)} of {len(labels)} failures {asked}")
    all_together = [
        ("Fewer than three training seeds; how much is chance?", few),
        ("Final progress (on PushT: coverage) far below max progress; what undoes it?", lost),
    ]
    questions = [f"{question} {'; '.join(found)}." for question, found in all_together if found] + own
    return questions or ["These results raise none by themselves."]


def read_recorded(path: Path) -> list[dict[str, Any]]:
    """Rows measured elsewhere. Raises BadInput, naming the row, for a malformed one."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not readable as JSON ({error})") from None
    for number, row in enumerate(rows if isinstance(rows, list) else [None]):
        good = isinstance(row, dict) and {"method", "task", "success", "source"} <= row.keys()
        if (
            not good
            or not row["success"]
            or not all(isinstance(s, int | float) and 0 <= s <= 1 for s in row["success"])
        ):
            raise BadInput(f"{path}: row {number}: give method, task, success (a list of numbers in 0..1) and source")
    return rows
