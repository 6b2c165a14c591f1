"""What the lectures claim, one change at a time: every variant of an ablation trains alike and is evaluated alike.

A run is one variant with one training seed, and one file; what is finished is not done again.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from tqdm.auto import tqdm

from vqbet_course.compare import Budget, learn, made_by, shapes
from vqbet_course.contract import PUSHT_TASK, BadInput
from vqbet_course.demos import load_demos
from vqbet_course.evaluate import assess
from vqbet_course.files import read_json, write_json
from vqbet_course.rollout import Policy, make_pusht
from vqbet_course.train import prepare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = "vqbet_course/ablation/1"

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "ablations"

MOST_MINUTES = 3.0
"""What a run may train at most."""

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Variant:
    """What one variant changes: fields of the laptop's configuration, and how many demonstrations it sees."""

    changes: dict[str, Any] = field(default_factory=dict)
    demos: int = 120


@dataclass(frozen=True)
class Ablation:
    """A question, its variants by name, and the figure (of a result's metrics) that answers it."""

    question: str
    variants: dict[str, Variant]
    figure: str = "avg_max_reward"


def changed(**changes: Any) -> Variant:
    return Variant(changes)


ABLATIONS: dict[str, Ablation] = {
    "layers": Ablation("How many quantizer layers?", {
        f"{n} layer{'s' if n > 1 else ''}": changed(vqvae_n_layers=n) for n in (1, 2, 3)}),
    "chunk": Ablation("Do long chunks succeed more?", {
        f"chunk {w}": changed(action_chunk_size=w, n_action_steps=None) for w in (1, 4, 8, 16)}),
    "smoothness": Ablation("Do long chunks move more smoothly?", {
        f"chunk {w}": changed(action_chunk_size=w, n_action_steps=None) for w in (1, 4, 8, 16)}, "jerk"),
    "offset": Ablation("Which code should the offset learn from?", {
        "ground truth": changed(offset_code="ground_truth"), "sampled": changed(offset_code="sampled")}),
    "acting": Ablation("Whole chunks, or looking again?", {
        "whole chunk": changed(n_action_steps=None), "half a chunk": changed(n_action_steps=4),
        "every step": changed(n_action_steps=1), "averaged": changed(n_action_steps=1, average_chunks=True)}),
    "temperature": Ablation("How hot should codes be drawn?", {
        f"temperature {t:g}": changed(bet_softmax_temperature=t) for t in (0.01, 0.1, 1.0)}),
    "demos": Ablation("How many demonstrations are enough?", {
        f"{n} demonstrations": Variant({}, n) for n in (20, 50, 120, 200)}),
    "codebook": Ablation("How large a codebook?", {f"{k} codes": changed(vqvae_n_embed=k) for k in (4, 16, 64)}),
    "selection": Ablation("Choose codes together, or one after the other?", {
        "jointly": changed(sequentially_select=False), "sequentially": changed(sequentially_select=True)}),
}
"""In order of worth. Two that ask different questions of the same variants share their runs."""


def known(name: str) -> Ablation:
    """An ablation by its name. Raises BadInput for an unknown one."""
    if name not in ABLATIONS:
        raise BadInput(f"unknown ablation {name!r}; choose from {', '.join(ABLATIONS)}")
    return ABLATIONS[name]


def ablate(name: str, data: str = "demo", seeds: Sequence[int] = SEEDS, budget: Budget | None = None,
           episodes: int = 50, out: Path = RESULTS, quiet: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Do the runs of an ablation that are missing; returns all of its results, by variant.

    Raises BadInput for an unknown ablation, a budget above MOST_MINUTES, or results that were made otherwise."""
    ablation, budget = known(name), budget or Budget(MOST_MINUTES)
    if budget.minutes is not None and budget.minutes > MOST_MINUTES:
        raise BadInput(f"{budget.minutes:g} minutes: a run of an ablation trains {MOST_MINUTES:g} at most")
    if episodes < 1 or not seeds or min(seeds) < 0:
        raise BadInput("give at least one episode and one seed, none of them below 0")
    settings = {"data": data, "episodes": episodes, "budget": asdict(budget)}
    stored(name, out, settings)
    missing = [(variant, seed) for seed in seeds for variant in ablation.variants
               if not path_of(ablation.variants[variant], seed, out).exists()]
    for variant, seed in tqdm(missing, desc=name, unit="run", disable=quiet):
        result = run(ablation.variants[variant], seed, settings, budget)
        asked = f"--steps {budget.steps}" if budget.steps else f"--minutes {budget.minutes:g}"
        result["command"] = f"vqbet-course ablate {name} --data {data} --seeds {seed} {asked} --episodes {episodes}"
        write_json(path_of(ablation.variants[variant], seed, out), result)
    return stored(name, out, settings)


def run(variant: Variant, seed: int, settings: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """Train a variant on demonstrations that the seed chooses, and evaluate it on the panel's first starts."""
    torch.set_num_threads(1)
    demos = load_demos(settings["data"])
    if len(demos) < variant.demos:
        raise BadInput(f"{settings['data']}: holds {len(demos)} demonstrations, this variant needs {variant.demos}")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(demos))[:variant.demos])
    demos = demos.select(chosen)
    config = shapes("vqbet", demos, use_relative_actions=True, **variant.changes)
    learned = learn("vqbet", prepare(demos, config, augment=True), config, budget, seed)
    played, figures = assess(cast(Policy, learned.policy), learned.normalizer, make_pusht,
                             range(100_000, 100_000 + settings["episodes"]))
    return {"schema": SCHEMA, "arm": key(variant), "variant": asdict(variant), "settings": settings, "seed": 100_000,
            "contract": PUSHT_TASK.to_dict(), "training": {"seed": seed, "steps": learned.steps, "seconds": learned.seconds},
            "metrics": figures, "episodes": [e.summary() for e in played], "made_by": made_by()}


def key(variant: Variant) -> str:
    """A variant as a part of a file name: what it changes."""
    parts = [f"{name}-{value}" for name, value in sorted(variant.changes.items())]
    return "_".join([*parts, f"demos-{variant.demos}"])


def path_of(variant: Variant, seed: int, out: Path) -> Path:
    return out / f"{key(variant)}_seed{seed}.json"


def stored(name: str, out: Path = RESULTS, settings: dict[str, Any] | None = None) -> dict[str, list[dict[str, Any]]]:
    """The results of an ablation by variant, an empty list where none was run.

    Raises BadInput for a file of another schema, or made with other settings than these."""

    def parse(values: dict[str, Any]) -> dict[str, Any]:
        if values["schema"] != SCHEMA:
            raise BadInput(f"schema {values['schema']}, this version reads {SCHEMA}; choose another --out")
        other = [k for k in settings or {} if settings and values["settings"][k] != settings[k]]
        if other:
            raise BadInput(f"made with {other[0]} {values['settings'][other[0]]}; choose another --out")
        return values

    return {label: [read_json(path, parse) for path in sorted(out.glob(f"{key(variant)}_seed*.json"))]
            for label, variant in known(name).variants.items()}


def figure_of(result: dict[str, Any], figure: str) -> float:
    """The figure of a result that an ablation asks about."""
    metrics = result["metrics"]
    return float(metrics["behaviour"]["jerk"] if figure == "jerk" else metrics[figure])


def interval(results: Sequence[dict[str, Any]], figure: str) -> tuple[float, float, float]:
    """Mean over the training seeds, the lowest and the highest."""
    values = [figure_of(result, figure) for result in results]
    return float(np.mean(values)), min(values), max(values)


def conclusion(name: str, results: dict[str, list[dict[str, Any]]]) -> str:
    """One sentence that the figures support, and no more: variants whose ranges over the seeds overlap are not ranked."""
    ablation, done = known(name), {label: found for label, found in results.items() if found}
    words = ablation.figure.replace("avg_", "average ").replace("_", " ")
    if len(done) < 2:
        return f"{ablation.question} Not run: vqbet-course ablate {name}"
    spans = {label: interval(found, ablation.figure) for label, found in done.items()}
    pick: Callable[..., str] = min if ablation.figure == "jerk" else max
    best = pick(spans, key=lambda label: spans[label][0])
    close = [label for label in spans if label != best and spans[label][1] <= spans[best][2]
             and spans[best][1] <= spans[label][2]]
    told = "{:.2f} ({:.2f} to {:.2f})".format(*spans[best])
    seeds = min(len(found) for found in done.values())
    verdict = f"not told apart from {', '.join(close)}" if close else "apart from all others"
    if seeds < 2:
        verdict = "with one seed nothing is told apart"
    missing = [label for label in results if label not in done]
    return (f"{ablation.question} {best} has the {'lowest' if pick is min else 'highest'} {words}, {told} over {seeds} "
            f"seed(s), {verdict}." + (f" Not run: {', '.join(missing)}." if missing else ""))


def draw(ax: "Axes", name: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """A row per variant: a dot per training seed and a bar over their range; `not run` where there is nothing."""
    ablation = known(name)
    for y, found in enumerate(results.values()):
        if not found:
            ax.text(0.02, y, "not run", transform=ax.get_yaxis_transform(), va="center", color="0.5")
            continue
        _, low, high = interval(found, ablation.figure)
        ax.plot([low, high], [y, y], color="#E69F00", linewidth=3)
        ax.plot([figure_of(r, ablation.figure) for r in found], [y] * len(found), "o", color="#0072B2")
    words = ablation.figure.replace("avg_", "average ").replace("_", " ")
    ax.set(yticks=range(len(results)), yticklabels=list(results), ylim=(len(results) - 0.5, -0.5), xlabel=words,
           title=ablation.question)
