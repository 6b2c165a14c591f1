"""The design of an experiment: a page with hypotheses that a program can judge.

A hypothesis is a line `- H1: `vqbet.success_rate >= bc.success_rate + 0.05``, or, about what was evaluated with a
perturbation, `- H2: `vqbet@shove=60.success_rate >= vqbet.success_rate - 0.2``. It is judged start by start: the
difference of both sides on the same environment seeds, averaged over training seeds, with a bootstrap interval.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_text
from vqbet_course.core.places import RESULTS
from vqbet_course.evaluation.results import Row, rows_of
from vqbet_course.rollout import max_reward

EPISODE_METRICS: dict[str, Callable[[dict[str, Any], float], float]] = {
    "success_rate": lambda e, _: float(e["success"]),
    "avg_max_reward": lambda e, success: float(max_reward(e["max_coverage"], success)),
    "avg_max_coverage": lambda e, _: float(e["max_coverage"]),
    "avg_final_coverage": lambda e, _: float(e["final_coverage"]),
}
"""What a hypothesis can be about, and what an episode contributes to it, given the progress that counts as success."""

MEASURED = RESULTS / "panel.json"
"""The panel whose speeds a budget uses where no others are given."""

LEAST_STARTS = 10
"""With fewer shared starts than these, a verdict is inconclusive."""

SIDE = r"(?P<{0}>[A-Za-z][\w-]*(?:@[\w=.+-]+)?)\.(?P<{0}_metric>[A-Za-z]\w*)"
HYPOTHESIS = re.compile(
    rf"^{SIDE.format('one')}\s*(?P<relation>>=|<=)\s*(?:{SIDE.format('two')}\s*)?"
    r"(?P<margin>(?:[+-]\s*)?[\d.]+)?$"
)
LINE = re.compile(r"^- (H\d+): `([^`]+)`.*$", re.MULTILINE)


@dataclass(frozen=True)
class Hypothesis:
    """`one.metric` is at least (sign 1) or at most (sign -1) `two.metric` + margin; two is None for a plain number."""

    text: str
    one: str
    two: str | None
    metric: str
    sign: int
    margin: float

    @classmethod
    def parse(cls, text: str) -> "Hypothesis":
        """Read a line such as `vqbet.success_rate >= act.success_rate + 0.05`. Raises BadInput for others."""
        found = HYPOTHESIS.match(text.strip())
        try:
            if found is None or not (found["two"] or found["margin"]):
                raise ValueError
            margin = float((found["margin"] or "0").replace(" ", ""))
        except ValueError:
            raise BadInput(f"hypothesis {text!r}: write METHOD.METRIC >= METHOD.METRIC + NUMBER, or <=") from None
        metrics = {found["one_metric"], found["two_metric"]} - {None}
        if len(metrics) > 1 or not metrics <= EPISODE_METRICS.keys():
            raise BadInput(f"hypothesis {text!r}: compare one of {', '.join(EPISODE_METRICS)} with itself")
        return cls(text, found["one"], found["two"], metrics.pop(), 1 if found["relation"] == ">=" else -1, margin)


def per_start(rows: Sequence[Row], name: str, metric: str) -> dict[tuple[int, int], float]:
    """{(training seed, environment seed): the metric of the episode} of a method. Raises BadInput without results, and
    for results of several kinds, which cannot be paired."""
    mine = [row for row in rows if row.name == name]
    if not mine:
        raise BadInput(f"no results of {name!r}; there are {', '.join(sorted({row.name for row in rows}))}")
    kinds = {f"{row.task} after {row.trained}" for row in mine}
    if len(kinds) > 1 or len({row.seed for row in mine}) < len(mine):
        raise BadInput(
            f"{len(mine)} results of {name!r} are of several kinds ({'; '.join(sorted(kinds))}); judge by "
            "a single panel, or a folder with one of each training seed"
        )
    value = EPISODE_METRICS[metric]
    return {(row.seed, e["seed"]): value(e, row.success_progress) for row in mine for e in row.episodes}


def judge_hypothesis(hypothesis: Hypothesis, rows: Sequence[Row], draws: int = 2000) -> dict[str, Any]:
    """The verdict `confirmed`, `refuted` or `inconclusive`, and the numbers behind it.

    excess: by how much the claim is exceeded (below 0: missed), with its 95 % bootstrap interval over the starts."""
    one = per_start(rows, hypothesis.one, hypothesis.metric)
    two = per_start(rows, hypothesis.two, hypothesis.metric) if hypothesis.two else dict.fromkeys(one, 0.0)
    by_start = defaultdict(list)
    for key in sorted(one.keys() & two.keys()):
        by_start[key[1]].append(hypothesis.sign * (one[key] - two[key] - hypothesis.margin))
    excess = np.array([np.mean(values) for values in by_start.values()])
    n = len(excess)
    if n < LEAST_STARTS:
        return {"verdict": "inconclusive", "starts": n, "why": f"{n} shared starts, at least {LEAST_STARTS} are needed"}
    picks = np.random.default_rng(0).integers(n, size=(draws, n))
    low, high = np.percentile(excess[picks].mean(1), [2.5, 97.5])
    verdict = "confirmed" if low >= 0 else "refuted" if high < 0 else "inconclusive"
    mean = excess.mean().round(3) + 0.0  # no "-0.000"
    return {
        "verdict": verdict,
        "starts": n,
        "why": f"exceeds the claim by {mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f}, {n} starts)",
    }


def hypotheses(page: str) -> dict[str, Hypothesis]:
    """The hypotheses of a design page, by name. Raises BadInput for a page without any, or with an unreadable one."""
    found = {name: Hypothesis.parse(text) for name, text in LINE.findall(page)}
    if not found:
        raise BadInput("no hypothesis: write lines such as - H1: `vqbet.success_rate >= bc.success_rate + 0.05`")
    return found


def judge_page(page: str, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The verdict on each hypothesis of a page, by name."""
    return {name: judge_hypothesis(hypothesis, rows) for name, hypothesis in hypotheses(page).items()}


def with_verdicts(page: str, verdicts: dict[str, dict[str, Any]]) -> str:
    """The page with its verdict behind each hypothesis; those of an earlier judgement are replaced."""
    return LINE.sub(lambda m: f"- {m[1]}: `{m[2]}` — **{verdicts[m[1]]['verdict']}**: {verdicts[m[1]]['why']}", page)


PAGE = """# {name}

## Hypotheses

Each is a line that a program reads. `vqbet-course design {name} --judge PANEL` writes a verdict behind it.

- H1: `vqbet.success_rate >= bc.success_rate + 0.05`
- H2: `vqbet.avg_final_coverage >= bc.avg_final_coverage`

About an evaluation with a perturbation, a line names it: `vqbet@shove=60.success_rate >= vqbet.success_rate - 0.2`.

## Variables

- **Independent** (what you change): the policy
- **Dependent** (what you measure): success, max and final coverage, on the same starts for all
- **Controls** (what you hold equal): demonstrations, minutes of training, environment seeds, horizon, one evaluator

## Experiments

| experiment | methods | training seeds | episodes of each |
|---|---|---|---|
| main panel | vqbet, bc | 1, 2, 3 | 30 |
| the assumption | vqbet with `--perturb shove=60`: a chunk assumes that the world stays as it was when it was chosen | 1, 2, 3 | 30 |

## Compute budget

{budget}

## Risks and kill criteria

- *Risk:* the intervals are wider than the difference. *Kill:* H1 is still inconclusive after 100 starts a seed.
- *Risk:* the equal minutes are too short for a method. *Kill:* its learning curve still falls at the end; give all twice the time.

## Exercise: a matched method

Take a method that is not in the panel. Write down what it observes, which actions it gives, in which environment and by
which metric it is measured, and **one perturbation that hits its core assumption**. Add a hypothesis about that.

- **Environment:**
- **Observation schema** (fields, sizes, units, rate):
- **Action interface** (what a number means, chunk, rate):
- **Metric:**
- **Core assumption, and the perturbation that hits it:**
"""


def compute_budget(
    minutes: float, methods: int = 2, seeds: int = 3, episodes: int = 30, panel: Path | None = None
) -> str:
    """Minutes that the page's experiments take: training as asked, episodes by the speed that `panel` measured."""
    training = methods * seeds * minutes
    if panel is None:
        return (
            f"Training: {methods} methods x {seeds} seeds x {minutes:g} min = {training:g} min on one core. "
            "Evaluation: not measured yet; give --speeds PANEL."
        )
    rows = rows_of(panel)
    step = {row.method: row.metrics["step_latency_ms"]["p50"] for row in rows if "step_latency_ms" in row.metrics}
    if not step:
        raise BadInput(f"{panel}: says nothing of latencies; give a panel.json or a run.json")
    length = float(np.mean([e["steps"] for row in rows for e in row.episodes]))
    slowest = max(step, key=lambda name: step[name])
    evaluation = methods * seeds * episodes * length * step[slowest] / 60_000
    return (
        f"Training: {methods} methods x {seeds} seeds x {minutes:g} min = {training:g} min on one core. "
        f"Evaluation: at most {evaluation:.1f} min ({methods * seeds * episodes} episodes of {length:.0f} steps, "
        f"{step[slowest]:.1f} ms a step for the slowest, {slowest}; measured in {panel.name}; "
        "simulation and rendering not included)."
    )


def write_design(name: str, out: Path, minutes: float, speeds: Path | None) -> Path:
    """A new page `out`/NAME.md. Raises BadInput where there is one, or for a name that is no file name."""
    path = page_path(name, out)
    if path.exists():
        raise BadInput(f"{path}: exists already; judge it with --judge PANEL, or choose another name")
    speeds = speeds or (MEASURED if MEASURED.exists() else None)
    write_text(path, PAGE.format(name=name, budget=compute_budget(minutes, panel=speeds)))
    return path


def judge_design(name: str, out: Path, panel: Path) -> dict[str, dict[str, Any]]:
    """Write the verdicts of a result file or folder into the page; returns them by hypothesis."""
    path = page_path(name, out)
    if not path.is_file():
        raise BadInput(f"{path}: no such design; make it with: vqbet-course design {name}")
    page = path.read_text(encoding="utf-8")
    verdicts = judge_page(page, rows_of(panel))
    write_text(path, with_verdicts(page, verdicts))
    return verdicts


def page_path(name: str, out: Path) -> Path:
    """The file of a design page. Raises BadInput for a name that is no file name."""
    if not re.fullmatch(r"[\w-]+", name):
        raise BadInput(f"design {name!r}: take letters, digits, - and _ for its name")
    return out / f"{name}.md"
