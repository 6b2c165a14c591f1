"""The data card of a dataset: where it comes from, and what is in it, in figures taken from the data."""
from typing import Any

import numpy as np

from vqbet_course.contract import Contract
from vqbet_course.convert.source import UNSTATED, Source

CARD = """---
{front}task_categories:
- robotics
tags:
- LeRobot
---

# {task}

| | |
|---|---|
| source | {path} ({kind}) |
| demonstrated by | {operator} |
| robot | {robot} |
| license | {license} |
| episodes | {episodes}, of {shortest} to {longest} frames, median {median:g} |
| frames | {frames} at {fps:g} a second: {minutes:.1f} minutes |

| feature | size | unit | lowest | highest |
|---|---|---|---|---|
{features}

{ending}The format is LeRobotDataset v3; `vqbet-course demos inspect` says more. Every episode has a checksum of its states and
actions in `meta/episodes`.
"""


def data_card(source: Source, contract: Contract, rows: list[dict[str, Any]]) -> str:
    """README.md of a dataset with these rows of meta/episodes."""
    lengths = np.array([row["length"] for row in rows])
    features = [f"| `{name}` | {' x '.join(map(str, np.atleast_1d(f.size)))} | {f.unit} | {f.low:.4g} | {f.high:.4g} |"
                for name, f in contract.features().items()]
    wins = [row["stats/next.success/max"][0] for row in rows if "stats/next.success/max" in row]
    return CARD.format(
        front="" if source.license == UNSTATED else f"license: {source.license}\n", task=source.task, path=source.path,
        kind=source.kind, operator=source.operator, robot=source.robot, license=source.license, episodes=len(rows),
        shortest=lengths.min(), longest=lengths.max(), median=np.median(lengths), frames=lengths.sum(),
        fps=contract.fps, minutes=lengths.sum() / contract.fps / 60, features="\n".join(features),
        ending=f"{sum(wins):.0f} of the {len(rows)} episodes end in success.\n\n" if wins else "")
