"""Rounds of corrections on the disk: collect, aggregate, train further; what is finished is not done again (lesson 15).

OUT/corrections.json, corrections.png     the counts of every round
OUT/round-N/                              the run directory of the policy after round N, and in it
OUT/round-N/data/                         what it was trained on: the demonstrations and all corrections so far
OUT/round-N/round.json                    the counts of the round, written when `data` is whole
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import in_plain_words, read_json, write_atomically, write_json
from vqbet_course.core.records import made_by
from vqbet_course.corrections import (
    Columns,
    Gate,
    aggregate,
    corrected_rollouts,
    corrections_of,
    interventions,
    recoveries,
)
from vqbet_course.datasets.source import Episode, Source
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.demos import Demos
from vqbet_course.evaluation.held_out import training_demos
from vqbet_course.tasks import open_source, own_task
from vqbet_course.tasks.task import Task
from vqbet_course.training.integrity import WEIGHTS, locked
from vqbet_course.training.runs import Run, load_run
from vqbet_course.training.trainer import resume, train_further

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "vqbet_course/corrections/1"

EXPERT = "expert"
"""Corrections by the scripted demonstrator of the task, instead of those in a folder."""

HOW = ("take-over", "label")
"""How the expert corrects: it acts where the policy gets nowhere (HG-DAgger), or says what it would do (DAgger)."""

EVERY = 12
"""Steps from one labelled state to the next."""

FIRST_SEED = 200_000
"""Environment seed of the first rollout that is corrected, unless another one is asked for."""

Collected = tuple[list[Columns], dict[str, Any]]
"""Corrections, and the counts of their round."""


@dataclass(frozen=True)
class Asked:
    """What the rounds of a folder are made with: the run that they start from, whose corrections, how the expert corrects,
    rollouts of each round, steps of training after each, the first environment seed."""

    run: str
    by: str = EXPERT
    how: str = HOW[0]
    episodes: int = 20
    steps: int = 1000
    seed: int = FIRST_SEED


def correct(asked: Asked, rounds: int, out: Path | None = None, quiet: bool = False) -> dict[str, Any]:
    """Do what is missing of `rounds` rounds of corrections in `out`, by default RUN-corrected beside the run; returns
    what corrections.json holds, and `folder`.

    Raises BadInput for numbers out of range, a run that cannot be corrected, a folder without corrections, or an `out`
    that was made otherwise."""
    check_numbers(asked, rounds)
    run = load_run(asked.run)
    task, demos = correctable(run)
    collect = collector(asked, run, task, quiet)
    out = out or Path(f"{run.output}-corrected")
    begin_rounds(out, asked)
    with locked(out):
        for number in range(1, rounds + 1):
            if number > 1:
                run = load_run(out / f"round-{number - 1}")
                _, demos = correctable(run)
            one_round(run, demos, out / f"round-{number}", partial(collect, number=number), asked, quiet)
            report = write_report(out, asked, number)
    return report | {"folder": str(out)}


def check_numbers(asked: Asked, rounds: int) -> None:
    """Raise BadInput for numbers out of range."""
    if rounds < 1 or asked.episodes < 1 or asked.seed < 0:
        raise BadInput("--rounds and --episodes must be at least 1, --seed at least 0")
    if asked.steps < 1:
        raise BadInput(f"--steps {asked.steps}: give at least 1")
    if asked.by != EXPERT and rounds > 1:
        raise BadInput(
            f"--rounds {rounds}: one folder is one round; drive with the new policy at the board, then correct that"
        )


def correctable(run: Run) -> tuple[Task, Demos]:
    """The task of a run, and what it was trained on. Raises BadInput for a run whose rollouts cannot be corrected."""
    config = run.policy.network.config
    task = own_task(run.contract, run.plan.task)
    if task is None:
        raise BadInput(
            f"{run.path}: trained on data of no task that is known, so there is no environment to correct it in"
        )
    if config.image_shapes or config.goal_shape:
        raise BadInput(f"{run.path}: observes images or goals; only policies that observe numbers can be corrected")
    demos = training_demos(run, [*config.observation_sizes])
    if demos is None:
        raise BadInput(f"{run.path}: its demonstrations, {run.plan.data}, are not here or have changed; put them back")
    return task, demos


def collector(asked: Asked, run: Run, task: Task, quiet: bool) -> Callable[..., Collected]:
    """The function that collects the corrections of a round, (run, number=N). Raises BadInput where there are none."""
    if asked.by != EXPERT:
        found = corrections_in(asked.by, run, task)
        return lambda run, number: found
    task.demonstrator(0)  # a task without one is refused here
    return partial(corrections_by_expert, task=task, asked=asked, quiet=quiet)


def corrections_by_expert(run: Run, number: int, task: Task, asked: Asked, quiet: bool = True) -> Collected:
    """The corrections of round `number` by the scripted demonstrator."""
    first = asked.seed + (number - 1) * asked.episodes
    how: dict[str, Any] = {"gate": Gate()} if asked.how == "take-over" else {"every": EVERY}
    episodes = corrected_rollouts(
        run.policy, run.normalizer, task, range(first, first + asked.episodes), **how, quiet=quiet
    )
    parts = [part for episode in episodes for part in corrections_of(episode, run.policy.network.config)]
    taken = [episode.taken for episode in episodes]
    alone = sum(episode.success and not any(episode.taken) for episode in episodes)
    back = sum(recoveries(episode.taken, episode.progress) for episode in episodes)
    return parts, counts(parts, taken, back) | {"won_alone": alone, "labels": sum(len(e.labels) for e in episodes)}


def counts(parts: Sequence[Columns], taken: Sequence[Sequence[bool]], back: int | None) -> dict[str, Any]:
    """What is counted of a round: of its corrections and, per episode, of the steps that were taken from the policy."""
    return {
        "episodes": len(taken),
        "steps": sum(map(len, taken)),
        "steps_taken": int(sum(map(sum, taken))),
        "interventions": sum(len(interventions(flags)) for flags in taken),
        "recoveries": back,
        "corrections": len(parts),
        "corrected_steps": sum(len(part["action"]) for part in parts),
    }


def corrections_in(folder: str, run: Run, task: Task) -> Collected:
    """The corrections that somebody recorded at the board (lesson 15) and their counts.

    Raises BadInput for another task's episodes, and where none was taken from the policy."""
    source = open_source(folder, task=run.plan.task)
    names = [*run.policy.network.config.observation_sizes, "action"]
    missing = [name for name in names if name not in source.first.numbers]
    if missing or not task.owns(source.contract):
        raise BadInput(f"{folder}: not episodes of {task.title} as {run.path} observes it; give another folder")
    parts, taken, back = list[Columns](), [], 0
    for episode in source.sound_episodes():
        flags = episode.numbers.get("intervention", np.zeros((len(episode), 1)))[:, 0].astype(bool).tolist()
        parts += [{name: episode.numbers[name][a:b] for name in names} for a, b in interventions(flags)]
        taken.append(flags)
        if "next.reward" in episode.numbers:
            back += recoveries(flags, episode.numbers["next.reward"][:, 0].tolist())
    shortest = run.policy.network.config.window_reach
    parts = [part for part in parts if len(part["action"]) >= shortest]
    if not parts:
        raise BadInput(
            f"{folder}: holds no corrections of {shortest} steps or more; record some: drive with a policy at "
            "the board of lesson 15, and take over"
        )
    return parts, counts(parts, taken, back)


# --- a round ------------------------------------------------------------------------------------------------------


def one_round(
    run: Run, demos: Demos, folder: Path, collect: Callable[[Run], Collected], asked: Asked, quiet: bool
) -> None:
    """Collect what corrects `run`, add it to its demonstrations, and train it further; what is there already is kept."""
    if not (folder / "round.json").exists():
        parts, found = collect(run)
        if not parts:
            raise BadInput(
                f"{run.path}: nothing had to be corrected in {found['episodes']} rollouts; ask for more --episodes"
            )
        if (folder / "data").exists():  # of a round that was interrupted
            with in_plain_words(folder):
                shutil.rmtree(folder / "data")
        write_dataset(source_of_demos(aggregate(demos, parts), run), folder / "data", quiet)
        write_json(folder / "round.json", found)
    if (folder / WEIGHTS).exists():
        return
    if (folder / "train_state.json").exists():
        resume(folder, quiet)
    else:
        train_further(run, str(folder / "data"), folder, asked.steps, run.plan.seed, quiet)


def source_of_demos(demos: Demos, run: Run) -> Source:
    """Demonstrations in memory as a source that can be written."""
    task = own_task(run.contract, run.plan.task)
    starts, columns = demos.episode_starts, demos.columns
    every = [
        Episode({name: values[a:b] for name, values in columns.items()}, f"episode {number}")
        for number, (a, b) in enumerate(zip(starts, demos.episode_ends, strict=True))
    ]
    return Source(
        demos.source,
        "demonstrations and corrections",
        len(every),
        lambda start: iter(every[start:]),
        demos.fps,
        units=run.contract.units(),
        task=task.instruction if task else "",
    )


def begin_rounds(out: Path, asked: Asked) -> None:
    """Write what the rounds of a folder are made with. Raises BadInput where they were made with something else."""
    file = out / "corrections.json"
    if (out / "train_state.json").exists():
        raise BadInput(f"{out}: holds a run; choose another --out")
    if not file.exists():
        write_json(file, {"schema": SCHEMA, "settings": asdict(asked), "rounds": [], "made_by": made_by()})
    made = read_json(file, lambda values: Asked(**values["settings"]))
    differs = [name for name, value in asdict(asked).items() if getattr(made, name) != value]
    if differs:
        name = differs[0]
        raise BadInput(f"{out}: made with {name} {getattr(made, name)}; ask for the same, or choose another --out")


def write_report(out: Path, asked: Asked, rounds: int) -> dict[str, Any]:
    """Write the counts of the finished rounds, and their plot."""
    done = [
        {"round": number} | read_json(out / f"round-{number}" / "round.json", dict) for number in range(1, rounds + 1)
    ]
    report = {"schema": SCHEMA, "settings": asdict(asked), "rounds": done, "made_by": made_by()}
    write_json(out / "corrections.json", report)
    figure = plot_rounds(done)
    write_atomically(out / "corrections.png", lambda partial: figure.savefig(partial, format="png", dpi=120))
    return report


def plot_rounds(rounds: Sequence[dict[str, Any]]) -> "Figure":
    """Interventions and recoveries in each round, and the share of the steps that were taken from the policy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = np.array([found["round"] for found in rounds])
    for shift, name, colour in ((-0.2, "interventions", "#D55E00"), (0.2, "recoveries", "#009E73")):
        bars = left.bar(numbers + shift, [found[name] for found in rounds], 0.38, color=colour, label=name)
        left.bar_label(bars, fontsize=9)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, frameon=False)
    share = [100 * found["steps_taken"] / found["steps"] for found in rounds]
    bars = right.bar(numbers, share, 0.5, color="#0072B2")
    right.bar_label(bars, fmt="%.0f", fontsize=9)
    left.set_title("how often", fontsize=10)
    right.set_title("steps that were taken over (%)", fontsize=10)
    for ax in (left, right):
        ax.set_xticks(numbers)
        ax.set_xlabel("round")
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def round_lines(report: dict[str, Any]) -> list[str]:
    """The rounds in words, a line each."""
    return [
        f"round {found['round']}: {found['interventions']} interventions, {found['recoveries']} recoveries in "
        f"{found['episodes']} episodes; {found['corrected_steps']} steps of corrections in {found['corrections']} pieces"
        for found in report["rounds"]
    ]
