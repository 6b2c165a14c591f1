"""The data card of a dataset: where it comes from, and what is in it, in figures taken from the data."""

import numpy as np

from vqbet_course.core.specs import Contract
from vqbet_course.datasets.source import UNSTATED, Source

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


def data_card(source: Source, contract: Contract, lengths: list[int], successes: list[list[float]]) -> str:
    """README.md of a dataset whose episodes are so long, and whether each was a success, where that is known."""
    features = [
        f"| `{name}` | {' x '.join(map(str, np.atleast_1d(f.size)))} | {f.unit} | {f.low:.4g} | {f.high:.4g} |"
        for name, f in contract.features().items()
    ]
    wins = sum(success for (success,) in successes)
    return CARD.format(
        front="" if source.license == UNSTATED else f"license: {source.license}\n",
        task=source.task,
        path=source.path,
        kind=source.kind,
        operator=source.operator,
        robot=source.robot,
        license=source.license,
        episodes=len(lengths),
        shortest=min(lengths),
        longest=max(lengths),
        median=np.median(lengths),
        frames=sum(lengths),
        fps=contract.fps,
        minutes=sum(lengths) / contract.fps / 60,
        features="\n".join(features),
        ending=f"{wins:.0f} of the {len(lengths)} episodes end in success.\n\n" if successes else "",
    )
