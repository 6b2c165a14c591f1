"""Ablations: claims of the lectures, tested one change at a time. All variants train and are evaluated in the same way.

A run is one variant with one training seed, and one file; what is finished is not done again. Variants that
differ only in how they act share a training; ablations with other questions to a variant share its runs.
"""

import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from scipy.stats import t as student

from vqbet_course.core.budget import Budget, Clock
from vqbet_course.core.configuration import LAPTOP, VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json, write_json
from vqbet_course.core.places import RESULTS
from vqbet_course.core.progress import progress
from vqbet_course.core.records import made_by
from vqbet_course.core.specs import TaskContract
from vqbet_course.demos import Demos, Normalizer, load_demos, make_windows
from vqbet_course.evaluation.behaviour import behaviour
from vqbet_course.experiments.panel import config_for, deadline, learn
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.rollout import rollout_metrics, rollouts
from vqbet_course.tasks import DEFAULT_TASK, get_task, open_source
from vqbet_course.tokens import kmeans, nearest_code
from vqbet_course.train import run_randomness, run_stage, vqvae_stage
from vqbet_course.training.data import RELATIVE, laptop_changes, prepare, stated_changes
from vqbet_course.training.factory import build_network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = "vqbet_course/ablation/1"

STORED = RESULTS / "ablations"
"""The results that the lessons draw."""

MOST_MINUTES = 3.0
"""The longest training of a run."""

USUAL = Budget(steps=5_000)
"""The training budget of the stored runs: in steps, so that load does not change it. Three to five minutes of a core; with
fewer steps hardly a start is solved, and success tells nothing apart."""

SEEDS = (1, 2, 3)

FIRST_START = 250_000
"""Environment seed of an evaluation's first start: a range of the ablations' own, apart from the panel's."""

BATCH = {"batch_size": 128}
"""In a short training, twice the steps of half the laptop's batch."""

UNSTEADY_PX = 25.0
"""Pixels by which an unsteady demonstrator's hand is shaken; the steady one's 3."""

USUAL_FIELDS = {f.name: LAPTOP.get(f.name, f.default) for f in fields(VQBeTConfig)}
"""The laptop's configuration by field, before it knows what is observed."""

ACTING = ("n_action_steps", "average_chunks")
"""Fields that only say how a trained policy acts; the temperature, too, where training draws no codes."""


@dataclass(frozen=True)
class Variant:
    """What one variant changes: fields of the laptop's configuration; how many demonstrations it sees, and
    how many more by an unsteady hand; which partial observation of the task; in a question about tokenizers alone, the
    kind."""

    changes: dict[str, Any] = field(default_factory=dict)
    demos: int = 120
    unsteady: int = 0
    view: str = ""
    tokenizer: str = ""  # "learned" or "k-means": no policy, only the error of its reconstruction


@dataclass(frozen=True)
class Ablation:
    """A question, its variants by name (`GROUP: NAME` where only those of a group compete), and the metric
    that answers it."""

    question: str
    variants: dict[str, Variant]
    metric: str = "avg_max_reward"


METRICS = {
    "avg_max_reward": ("average max reward", max),
    "success_rate": ("success rate", max),
    "jerk": ("jerk ({unit}/step³)", min),
    "reconstruction_px": ("reconstruction error ({unit})", min),
}
"""Each metric in words, `unit` being that of the actions, and which end of it is good. `reconstruction_px` is in that
unit, too, as it was called when there was PushT alone."""


Results = dict[str, list[dict[str, Any]]]
"""The results of an ablation by variant, one for each training seed; an empty list where none was run."""


def changed(**changes: Any) -> Variant:
    """A variant that changes fields of the configuration and nothing else."""
    return Variant(changes)


WAYS: dict[str, dict[str, Any]] = {
    "whole chunk": {"n_action_steps": None, "average_chunks": False},
    "2 of 4": {"n_action_steps": 2, "average_chunks": False},
    "every step": {"n_action_steps": 1, "average_chunks": False},
    "averaged": {"n_action_steps": 1, "average_chunks": True},
}

CHUNKS = {f"chunk {w}": changed(action_chunk_size=w, **WAYS["whole chunk"]) for w in (1, 2, 4, 8)}

ACTS = {
    f"temperature {temperature:g}: {name}": changed(bet_softmax_temperature=temperature, **way)
    for temperature in (0.1, 0.35, 1.0)
    for name, way in WAYS.items()
}

ONE_CODEBOOK = {"vqvae_n_layers": 1, "sequentially_select": False}  # nothing to choose one after the other

ABLATIONS: dict[str, Ablation] = {
    "queries": Ablation(
        "Action queries, or answers at the observations?",
        {"no queries": Variant(), "action queries": changed(action_queries=True)},
        "success_rate",
    ),
    "layers": Ablation(
        "How many quantizer layers?",
        {
            "1 layer": changed(**ONE_CODEBOOK),
            "2 layers": changed(vqvae_n_layers=2),
            "3 layers": changed(vqvae_n_layers=3),
        },
    ),
    "chunk": Ablation("Do long chunks, executed whole, succeed more?", CHUNKS, "success_rate"),
    "smoothness": Ablation("Do long chunks, executed whole, move more smoothly?", CHUNKS, "jerk"),
    "tokenizer": Ablation(
        "Learned codes or k-means, as chunks grow?",
        {
            f"chunk {w}: {name}": Variant({"action_chunk_size": w, "n_action_steps": None} | size, tokenizer=kind)
            for w in (1, 4, 8, 16)
            for name, kind, size in (
                ("k-means, 16 codes", "k-means", ONE_CODEBOOK | {"vqvae_n_embed": 16}),
                ("k-means, 64 codes", "k-means", ONE_CODEBOOK | {"vqvae_n_embed": 64}),
                ("learned, 2 x 8 codes", "learned", {}),
            )
        },
        "reconstruction_px",
    ),
    "offset": Ablation(
        "What is the offset worth, and which code should it learn from?",
        {
            "no offset": changed(offset_loss_weight=0.0),
            "of the sampled code": changed(offset_code="sampled"),
            "of the true code": changed(offset_code="ground_truth"),
        },
    ),
    "acting": Ablation("Whole chunks, looking again, or averaging?", ACTS),
    "shaking": Ablation("Which way of acting moves most smoothly?", ACTS, "jerk"),
    "demos": Ablation(
        "How many demonstrations are enough?", {f"{n} demonstrations": Variant(demos=n) for n in (20, 50, 120, 200)}
    ),
    "history": Ablation(
        "Does history help when the block is out of sight?",
        {
            f"hidden {k} of {2 * k} steps: sees {n} step{'s' if n > 1 else ''}": Variant(
                {"n_obs_steps": n}, view=f"hidden-{k}"
            )
            for k in (4, 8)
            for n in (1, 2, 6)
        },
    ),
    "quality": Ablation(
        "Do demonstrations of an unsteady hand help or harm?",
        {
            "50 steady": Variant(demos=50),
            "50 steady, 70 unsteady": Variant(demos=50, unsteady=70),
            "120 steady": Variant(),
        },
    ),
    "codebook": Ablation("How large a codebook?", {f"{k} codes": changed(vqvae_n_embed=k) for k in (4, 8, 16, 64)}),
    "selection": Ablation(
        "Choose codes together, or one after the other?",
        {
            "together": changed(sequentially_select=False),
            "told the sampled first code": changed(teacher_forcing=False),
            "told the true first code": changed(teacher_forcing=True),
        },
    ),
    "distractor": Ablation(
        "Does a distractor among the observations harm?", {"without": Variant(), "with": Variant(view="distractor")}
    ),
}
"""In the order in which they are best run."""


def find_ablation(name: str) -> Ablation:
    """The ablation of this name. Raises BadInput for an unknown one."""
    if name not in ABLATIONS:
        raise BadInput(f"unknown ablation {name!r}; choose from {', '.join(ABLATIONS)}, or all")
    return ABLATIONS[name]


# --- running ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AblationSettings:
    """What all runs of an ablation share: the SOURCE, the episodes of an evaluation, the training budget, the task."""

    data: str = "demo"
    episodes: int = 50
    budget: Budget = USUAL
    task: str = DEFAULT_TASK


def ablate(
    names: Sequence[str],
    settings: AblationSettings = AblationSettings(),
    seeds: Sequence[int] = SEEDS,
    out: Path = STORED,
    quiet: bool = False,
) -> dict[str, Results]:
    """Run what is missing of some ablations; returns all of their results by ablation and variant.

    Raises BadInput for an unknown ablation, a budget above MOST_MINUTES, or results made otherwise."""
    data, episodes, budget, task = settings.data, settings.episodes, settings.budget, settings.task
    if budget.minutes is not None and budget.minutes > MOST_MINUTES:
        raise BadInput(f"{budget.minutes:g} minutes: a run of an ablation may train for at most {MOST_MINUTES:g}")
    if episodes < 1 or not seeds or min(seeds) < 0:
        raise BadInput("give at least one episode and one seed, none of them below 0")
    shared = asdict(settings)
    for name in names:
        stored(name, out, shared)
    torch.set_num_threads(1)
    # one training per key, with everything that is measured of it
    jobs: dict[tuple[int, str], dict[Path, tuple[str, Variant]]] = {}
    for name in names:
        for seed in seeds:
            for variant in find_ablation(name).variants.values():
                if not (path := path_of(variant, seed, out)).exists():
                    jobs.setdefault((seed, key(training_of(variant))), {}).setdefault(path, (name, variant))
    with progress("ablations", "run", total=sum(map(len, jobs.values())), quiet=quiet) as bar:
        for (seed, _), wanted in jobs.items():
            first = next(iter(wanted.values()))[1]
            learned = None if first.tokenizer else train_variant(training_of(first), seed, data, budget, task)
            for path, (name, variant) in wanted.items():
                found = (
                    evaluate_variant(learned, variant, episodes, task)
                    if learned
                    else reconstruct(variant, seed, data, budget, task)
                )
                write_json(path, result_header(name, variant, seed, shared) | found)
                bar.update()
    return {name: stored(name, out, shared) for name in names}


def result_header(name: str, variant: Variant, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The first fields of a result file: its variant and settings, and the command that makes it again."""
    return {
        "schema": SCHEMA,
        "arm": key(variant),
        "variant": asdict(variant),
        "settings": settings,
        "command": f"vqbet-course ablate {name} --task {settings['task']} --data {settings['data']} --seeds {seed} "
        f"{Budget(**settings['budget']).option} --episodes {settings['episodes']}",
        "contract": get_task(settings["task"]).contract.to_dict(),
        "success_progress": get_task(settings["task"]).success_progress,
        "made_by": made_by(),
    }


class TrainedVariant(NamedTuple):
    """A trained network, its normalizer, and what training took: seconds of the clock and of this process alone."""

    network: VQBeT
    normalizer: Normalizer
    training: dict[str, Any]


def demonstrations_for(variant: Variant, seed: int, data: str, task: str, held_out: bool = False) -> Demos:
    """The demonstrations that a seed chooses for a variant, or the rest of them, held out.

    Raises BadInput where there are too few."""
    demos, n = load_demos(open_source(data, task=task)), variant.demos
    if len(demos) < n:
        raise BadInput(f"{data}: holds {len(demos)} demonstrations, {n} are needed")
    order = np.random.default_rng(seed).permutation(len(demos))
    return demos.select(np.sort(order[n:] if held_out else order[:n]))


def train_variant(variant: Variant, seed: int, data: str, budget: Budget, task: str = DEFAULT_TASK) -> TrainedVariant:
    """Train the policy of a variant on the demonstrations of a SOURCE."""
    own, demos = get_task(task), demonstrations_for(variant, seed, data, task)
    if variant.unsteady:
        demos = concatenate_demos(demos, unsteady_demos(task, variant.unsteady))
    changes = laptop_changes(demos) | BATCH | variant.changes
    if own.augmentable(demos.contract):
        demos = own.augment(demos, config_for("vqbet", demos, **changes).action_chunk_size)
    if variant.view:
        demos = own.partial_demos(variant.view, demos, seed)
    config = config_for("vqbet", demos, **changes)
    began = time.process_time()
    learned = learn("vqbet", prepare(demos, config, augment=False), config, budget, seed)
    network = cast(VQBeT, learned.module)
    if config.offset_loss_weight == 0:  # the offset head was not trained: let it output 0
        for parameter in network.offset_head.parameters():
            parameter.data.zero_()
    return TrainedVariant(
        network,
        learned.normalizer,
        {"seed": seed, "steps": learned.steps, "seconds": learned.seconds, "cpu_seconds": time.process_time() - began},
    )


def evaluate_variant(
    learned: TrainedVariant, variant: Variant, episodes: int, task: str = DEFAULT_TASK
) -> dict[str, Any]:
    """Evaluate a policy that acts as a variant says, on starts that all variants share."""
    fields_of_acting = (*ACTING, "bet_softmax_temperature")
    acting = {name: variant.changes.get(name, USUAL_FIELDS[name]) for name in fields_of_acting}
    policy = VQBeTPolicy(learned.network, replace(learned.network.config, **acting).acting)
    own = get_task(task)
    own = own.observed_partially(variant.view) if variant.view else own
    ended = rollouts(policy, learned.normalizer, range(FIRST_START, FIRST_START + episodes), own)
    return {
        "seed": FIRST_START,
        "training": learned.training,
        "config": stored_form(policy.config),
        "metrics": rollout_metrics(ended, own) | {"behaviour": behaviour(ended)},
        "episodes": [e.summary() for e in ended],
    }


def reconstruct(variant: Variant, seed: int, data: str, budget: Budget, task: str = DEFAULT_TASK) -> dict[str, Any]:
    """The error of a tokenizer's reconstruction, in the action's unit, on demonstrations that it was not trained on."""
    demos, held_out = (demonstrations_for(variant, seed, data, task, rest) for rest in (False, True))
    own = get_task(task)
    config = config_for("vqbet", demos, **laptop_changes(demos) | variant.changes)
    began = time.process_time()
    setup = prepare(demos, config, augment=own.augmentable(demos.contract))
    new = make_windows(
        held_out,
        setup.normalizer,
        config.n_obs_steps,
        config.n_queries,
        config.action_chunk_size,
        config.use_relative_actions,
    ).chunks
    with run_randomness(seed):
        if variant.tokenizer == "k-means":
            steps, flat = 0, new.flatten(1)
            codebook = kmeans(setup.windows.chunks.flatten(1), config.vqvae_n_embed)
            back = codebook[nearest_code(flat, codebook)].view_as(new)
        else:
            network = build_network(config)
            most = min(config.n_vqvae_training_steps, budget.steps or 10**9)
            stage = vqvae_stage(network, setup.windows, most)
            steps = run_stage(stage, seed, hooks=deadline(Clock(), budget))
            network.eval()
            with torch.no_grad():
                back = network.vqvae(new).reconstruction
    error = (back - new).norm(dim=-1).mean() * setup.action_unit
    return {
        "seed": seed,
        "config": stored_form(config),
        "episodes": [],
        "metrics": {"reconstruction_px": error.item(), "chunks": len(new)},
        "training": {"seed": seed, "steps": steps, "cpu_seconds": time.process_time() - began},
    }


@functools.cache
def unsteady_demos(task: str, episodes: int) -> Demos:
    """Demonstrations of a demonstrator whose hand shakes, and whose shaken actions were recorded."""
    return load_demos(get_task(task).demonstrations(episodes, FIRST_START, noise=UNSTEADY_PX, shaken=True))


def concatenate_demos(one: Demos, two: Demos) -> Demos:
    """Two sets of demonstrations of the same task, one after the other."""
    ends = np.concatenate([one.episode_ends, one.episode_ends[-1] + two.episode_ends])
    return replace(
        one,
        action=np.concatenate([one.action, two.action]),
        episode_ends=ends,
        observation={name: np.concatenate([values, two.observation[name]]) for name, values in one.observation.items()},
    )


# --- files --------------------------------------------------------------------------------------------------


def effective(variant: Variant) -> dict[str, Any]:
    """The fields in which a variant differs from the laptop's configuration."""
    return {name: value for name, value in sorted(variant.changes.items()) if value != USUAL_FIELDS[name]}


def training_of(variant: Variant) -> Variant:
    """The part of a variant that training depends on; it acts in whole chunks, which any length allows."""
    c = USUAL_FIELDS | variant.changes
    draws = c["offset_code"] == "sampled" or (c["sequentially_select"] and not c["teacher_forcing"])
    acting = ACTING if draws else (*ACTING, "bet_softmax_temperature")
    learned = {name: value for name, value in effective(variant).items() if name not in acting}
    return replace(variant, changes=learned | {"n_action_steps": None})


def key(variant: Variant) -> str:
    """A variant as a part of a file name: every field in which it differs. Equal variants have equal keys."""
    parts = [f"{name}-{value}" for name, value in effective(variant).items()]
    rest = ("unsteady", "view", "tokenizer")
    said = {name: value for name in rest if (value := getattr(variant, name))}
    return "_".join([*parts, f"demos-{variant.demos}", *(f"{name}-{value}" for name, value in said.items())])


def path_of(variant: Variant, seed: int, out: Path) -> Path:
    """The result file of a variant and a training seed."""
    return out / f"{key(variant)}_seed{seed}.json"


def stored(name: str, out: Path = STORED, settings: dict[str, Any] | None = None) -> Results:
    """The results of an ablation by variant, an empty list where none was run.

    Raises BadInput for a file of another schema, or made with other settings than these."""
    task = settings["task"] if settings else DEFAULT_TASK
    parse = functools.partial(parse_ablation, task=task, settings=settings or {})
    return {
        label: [
            read_json(path, functools.partial(parse, variant=variant))
            for path in sorted(out.glob(f"{key(variant)}_seed*.json"))
        ]
        for label, variant in find_ablation(name).variants.items()
    }


def parse_ablation(values: dict[str, Any], variant: Variant, task: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A result file's content, unchanged. Raises BadInput for another schema, settings or configuration."""
    if values["schema"] != SCHEMA:
        raise BadInput(f"schema {values['schema']}, this version reads {SCHEMA}; choose another --out")
    theirs = {"task": DEFAULT_TASK} | values["settings"]
    other = [name for name in settings if theirs[name] != settings[name]]
    if other:
        made = theirs | {"budget": Budget(**values["settings"]["budget"]).option}
        raise BadInput(f"made with {other[0]} {made[other[0]]}; ask for the same, or choose another --out")
    check_config(values, variant, task)
    return values


def full_config(variant: Variant, name: str = DEFAULT_TASK) -> VQBeTConfig:
    """The whole configuration that a variant trains and acts with on a task."""
    task = get_task(name)
    data = task.contract.data
    sizes = {name: int(np.prod(field.size)) for name, field in data.observation.items()}
    if variant.view:
        partial = task.partial_observation(variant.view)
        partial.begin(np.random.default_rng(0))
        first = next(iter(sizes))
        sizes[first] = len(partial(np.zeros(sizes[first])))
    changes = stated_changes(data) | ({} if variant.tokenizer else BATCH) | variant.changes
    return VQBeTConfig.laptop(observation_sizes=sizes, action_dim=int(np.prod(data.action.size)), **changes)


def stored_form(config: VQBeTConfig) -> dict[str, Any]:
    """A configuration as a result file holds it: the number of actions executed per decision is spelled out."""
    return replace(config, n_action_steps=config.steps_per_decision).to_dict()


def check_config(values: dict[str, Any], variant: Variant, task: str = DEFAULT_TASK) -> None:
    """Raise BadInput for a result that was made with another configuration than the variant's."""
    if "config" not in values:
        raise BadInput(
            "has no configuration, as in version 0.1; add it with: python -m vqbet_course.experiments.from_0_1 FOLDER"
        )
    made, now = VQBeTConfig.from_dict(values["config"]).to_dict(), stored_form(full_config(variant, task))
    if RELATIVE not in stated_changes(get_task(task).contract.data) | variant.changes:
        now[RELATIVE] = made[RELATIVE]  # the demonstrations decided it
    for name in now:
        if made[name] != now[name]:
            raise BadInput(f"made with {name} {made[name]}, this version asks for {now[name]}; choose another --out")


# --- conclusions ------------------------------------------------------------------------------------------


def metric_of(result: dict[str, Any], metric: str) -> float:
    """The metric of a result that an ablation asks about."""
    metrics = result["metrics"]
    return float(metrics["behaviour"]["jerk"] if metric == "jerk" else metrics[metric])


def metric_in_words(metric: str, results: Results) -> str:
    """A metric in words, with the unit of the actions in these results; of the default task's where there is none."""
    made = [result for found in results.values() for result in found if "contract" in result]
    contract = TaskContract.from_dict(made[0]["contract"]) if made else get_task(DEFAULT_TASK).contract
    return METRICS[metric][0].format(unit=contract.data.action.unit)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean over training seeds and its 95 % interval by Student's t, without bounds for a single seed."""
    mean, n = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else float("inf")
    return mean, mean - half, mean + half


def significantly_different(one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]], metric: str) -> bool:
    """Whether the interval of their difference, a pair for every training seed, leaves out 0: a seed means
    the same demonstrations, draws and starts in both."""
    first, second = ({r["training"]["seed"]: metric_of(r, metric) for r in found} for found in (one, two))
    _, low, high = interval([first[seed] - second[seed] for seed in first.keys() & second.keys()] or [0.0])
    return low > 0 or high < 0


def groups_of(labels: Iterable[str]) -> dict[str, list[str]]:
    """Labels by group, in order; those without one are a group of their own."""
    grouped: dict[str, list[str]] = {}
    for label in labels:
        grouped.setdefault(label.partition(": ")[0] if ": " in label else "", []).append(label)
    return grouped


def conclusion(name: str, results: Results) -> str:
    """One sentence that the results support: variants that do not differ significantly are not ranked."""
    ablation, done = find_ablation(name), {label: found for label, found in results.items() if found}
    if len(done) < 2:
        return f"{ablation.question} Not run: vqbet-course ablate {name}"
    said = [
        group_verdict(ablation.metric, group, {label: done[label] for label in labels})
        for group, labels in groups_of(done).items()
    ]
    missing = [label for label in results if label not in done]
    words, end = metric_in_words(ablation.metric, done), "Lowest" if METRICS[ablation.metric][1] is min else "Highest"
    return (
        f"{ablation.question} {end} {words}: {'; '.join(said)}. Means over {seeds_of(done)} training seed(s), "
        "95 % intervals." + (f" Not run: {', '.join(missing)}." if missing else "")
    )


def group_verdict(metric: str, group: str, done: Results) -> str:
    """The best of a group, and from which others it differs significantly."""
    pick = METRICS[metric][1]
    means = {label: float(np.mean([metric_of(r, metric) for r in found])) for label, found in done.items()}
    best = pick(means, key=lambda label: means[label])
    others = [label for label in done if label != best]
    close = [without_group(label) for label in others if not significantly_different(done[best], done[label], metric)]
    mean, low, high = interval([metric_of(r, metric) for r in done[best]])
    spread = f" ({low:.3g} to {high:.3g})" if np.isfinite(low) else ""
    others_differ = (
        f"not significantly different from {', '.join(close)}" if close else "significantly different from all others"
    )
    return f"{group + ', ' if group else ''}{without_group(best)}, {mean:.3g}{spread}, {others_differ}"


def without_group(label: str) -> str:
    """A label without its group."""
    return label.rpartition(": ")[2]


def seeds_of(done: Results) -> str:
    """How many training seeds the variants have, as a number or a range."""
    counts = {len(found) for found in done.values()}
    return "-".join(str(n) for n in sorted({min(counts), max(counts)}))


def budget_of(done: Results) -> str:
    """The training budget of the runs, in words."""
    return str(Budget(**next(iter(done.values()))[0]["settings"]["budget"]))


def draw_ablation(ax: "Axes", name: str, results: Results) -> None:
    """Draw a row per variant: a dot per training seed, a bar over the 95 % interval of their mean; `not run` where
    there is nothing. Where there are groups, a colour is a variant's."""
    ablation, done = find_ablation(name), {label: found for label, found in results.items() if found}
    names = list(dict.fromkeys(map(without_group, results)))
    grouped = len(groups_of(results)) > 1
    for y, (label, found) in enumerate(results.items()):
        colour = f"C{names.index(without_group(label))}" if grouped else "C0"
        if not found:
            ax.text(0.02, y, "not run", transform=ax.get_yaxis_transform(), va="center", color="0.5")
            continue
        values = [metric_of(r, ablation.metric) for r in found]
        mean, low, high = interval(values)
        if len(values) > 2:  # two seeds have an interval too, but it is wider than the axes
            ax.plot([low, high], [y, y], color=colour, linewidth=4, alpha=0.3, solid_capstyle="butt")
        ax.plot(values, [y] * len(found), "o", color=colour, markersize=4)
        ax.plot(mean, y, "|", color="black", markersize=10)
    spent = f"\n{budget_of(done)} a run, 95 % intervals" if done else ""
    ax.set(
        yticks=range(len(results)),
        yticklabels=list(results),
        ylim=(len(results) - 0.5, -0.5),
        xlabel=metric_in_words(ablation.metric, done) + spent,
    )
    ax.set_title(ablation.question, fontsize=10)


def plot_ablations(*names: str) -> None:
    """Draw the stored results of some ablations and print their conclusions."""
    import matplotlib.pyplot as plt

    answers = {name: stored(name) for name in names}
    rows = [len(results) + 3 for results in answers.values()]
    _, axes = plt.subplots(
        len(names), figsize=(8, 0.26 * sum(rows)), height_ratios=rows, squeeze=False, layout="constrained"
    )
    for ax, (name, results) in zip(axes.flat, answers.items(), strict=True):
        draw_ablation(ax, name, results)
        print(conclusion(name, results))
    plt.show()
