"""`vqbet-course`, a thin door: it parses, calls the module that does the work, and prints.

Commands import what they need when they are called, so that `--help` loads neither torch nor lerobot.
A command that cannot go on raises `BadInput`; `main` makes one line and exit status 2 of it.
"""

import errno
import functools
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqbet_course import __version__
from vqbet_course.core.errors import BadInput
from vqbet_course.course.profiles import CELL_TIMEOUT_S
from vqbet_course.tasks import DEFAULT_TASK

if TYPE_CHECKING:
    from vqbet_course.experiments.panel import Settings
    from vqbet_course.training.devices import Computing

PATH = click.Path(path_type=Path)

FPS = click.option("--fps", type=float, help="Frames a second, where the source does not say.")
UNIT = click.option(
    "--unit",
    "units",
    multiple=True,
    metavar="NAME=UNIT",
    help="A unit that the source does not state, of a feature, or of the number of this name in all features.",
)
TASK = click.option(
    "--task",
    metavar="TASK",
    help="Whose demonstrations they are: a task's name, like `navigation`, module:Class, or `none` to "
    "read them as they are stored. [default: what the source shows]",
)
SEED = click.option("--seed", type=int, default=0, show_default=True)
SEEDS = click.option("--seeds", default="1,2,3", show_default=True, metavar="N,N", help="Training seeds.")
DATA = click.option("--data", metavar="SOURCE", help="Demonstrations of the task.  [default: the task's own]")


def of_task[F: Callable[..., Any]](default: str) -> Callable[[F], F]:
    """The option --task of a command that makes environments; `default` says in words which task it is without it."""
    kinds = "A task's name, or module:Class of a Task or of a Gymnasium environment with a contract."
    return click.option("--task", metavar="TASK", help=f"{kinds} [default: {default}]")


OF_TASK = of_task(f"the task that the data show, else {DEFAULT_TASK}")

DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="cpu",
    show_default=True,
    help="Where the policy computes; auto: the first of cuda, mps and cpu that is there.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "auto"]),
    default="float32",
    show_default=True,
    help="Precision of the matrix products; auto: bfloat16 where a trial shows that it is faster.",
)


def computing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options --device and --precision; it gets the `Computing` that they state as `computing`."""

    @functools.wraps(command)
    def with_computing(*arguments: Any, device: str, precision: str, **options: Any) -> Any:
        from vqbet_course.training.devices import Computing

        return command(*arguments, computing=Computing.asked(device, precision), **options)

    return DEVICE(PRECISION(with_computing))


CHOICE = (
    click.option(
        "--features", metavar="NAME,NAME", help="Features of numbers to take, `none` for none. [default: all]"
    ),
    click.option("--cameras", metavar="NAME,NAME", help="Cameras to take, `none` for none. [default: all]"),
    click.option("--rename", multiple=True, metavar="OLD=NEW", help="Another name for a feature or a camera."),
    click.option("--drop-episodes", metavar="N,N-N", help="Episodes to leave out, by number."),
    click.option("--only-task", metavar="TEXT", help="Only the episodes in which this task is done."),
    click.option("--resize", metavar="HxW", help="Height and width to give to all images."),
    click.option("--ignore-gaps", is_flag=True, help="Take frames as evenly spaced, whatever their clock says."),
    click.option("--topics", multiple=True, metavar="FEATURE=TOPIC", help="What to take of a ROS 2 bag."),
    FPS,
)


def choosing[F: Callable[..., Any]](command: F) -> F:
    """Give a command the options that say what of a source is taken; they are the arguments of `choice_of`."""
    for option in reversed(CHOICE):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vqbet-course")
def cli() -> None:
    """VQ-BeT from nothing to a robot that pushes the T."""


@cli.command()
@click.option(
    "--profile",
    type=click.Choice(list(CELL_TIMEOUT_S)),
    default="quick",
    show_default=True,
    help="How much each lesson trains and evaluates.",
)
@click.option("--only", metavar="NN,NN", help="Run these lessons, by number, instead of all.")
@click.option(
    "--out",
    type=PATH,
    default=Path("_runs/course"),
    show_default=True,
    help="Where the executed lessons and the report go.",
)
def course(profile: str, only: str | None, out: Path) -> None:
    """Run the lessons from top to bottom and write a report. Exit status 1: a lesson failed."""
    from vqbet_course.course.runner import run_course

    results = run_course(out, profile=profile, only=only.split(",") if only is not None else None)
    if not all(result.ok for result in results):
        raise click.exceptions.Exit(1)


@cli.command()
@click.option(
    "--data",
    metavar="SOURCE",
    help="`demo`, a path of any kind that `demos convert` reads, or a dataset id on the hub.  [default: the task's own; "
    "without --task, demo]",
)
@click.option("--minutes", type=float, help="Train for about this long: calibrates, then fixes the steps.")
@click.option("--steps", type=int, help="Train for exactly this many steps of both stages together.")
@SEED
@click.option(
    "--augment/--no-augment",
    default=None,
    help="Add demonstrations that the task makes of them, like mirror images. [default: where it can]",
)
@click.option("--split", type=PATH, metavar="FILE", help="Train on these episodes only.")
@click.option(
    "--observe",
    metavar="NAME,NAME",
    help="What the policy sees, like observation.image,observation.state. [default: all numbers]",
)
@click.option(
    "--weights",
    metavar="NAME",
    help="Start a camera's ResNet from these of torchvision, fetched once, like ResNet18_Weights.IMAGENET1K_V1.",
)
@click.option(
    "--goal",
    type=click.Choice(["future", "final", "none"]),
    default="none",
    show_default=True,
    help="Train towards goals: any later moment of the demonstration, or its end.",
)
@click.option("--config", type=PATH, metavar="FILE", help="Fields of the configuration, as YAML or JSON.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="One field of the configuration, like action_chunk_size=4; `vqbet-course config` lists them.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of PyTorch. [default: 1; with --minutes all, where a trial shows that they train faster]",
)
@click.option("--resize", metavar="HxW", help="Height and width to give to the images that are observed.")
@click.option(
    "--cache",
    type=PATH,
    metavar="DIR",
    help="Keep decoded images here for other runs. [default: RUN/images, until the run has trained]",
)
@click.option("--out", type=PATH, metavar="RUN", help="The run directory to make.")
@click.option("--only-task", metavar="TEXT", help="Train on the episodes in which this task is done.")
@click.option("--drop-episodes", metavar="N,N-N", help="Episodes to leave out, by number.")
@UNIT
@click.option("--resume", type=PATH, metavar="RUN", help="The interrupted run to continue.")
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Also write the metrics for TensorBoard, into RUN/tensorboard. With --resume, too.",
)
@DEVICE
@PRECISION
@TASK
def train(out: Path | None, resume: Path | None, tensorboard: bool, **options: Any) -> None:
    """Train a VQ-BeT: first the tokenizer, then the policy."""
    from vqbet_course.evaluation.held_out import holds_out
    from vqbet_course.tasks import own_task
    from vqbet_course.training import trainer
    from vqbet_course.training.runs import load_run
    from vqbet_course.training.tensorboard import TensorBoard

    run = out or resume
    if run is None or (out and resume):
        raise click.UsageError("give --out RUN for a new run or --resume RUN for an interrupted one")
    free = {"resume", "tensorboard", "device", "precision"}
    if resume and (given := given_options(click.get_current_context().params.keys() - free)):
        raise BadInput(f"--resume takes all else from the run; leave {', '.join(given)} out")
    hooks = [TensorBoard(run)] if tensorboard else []
    with resumable(run):
        if resume:
            chosen = {name: options[name] for name in ("device", "precision") if given_options({name})}
            trainer.resume(run, hooks=hooks, **chosen)
        else:
            trainer.train(out=run, hooks=hooks, **training_of(**options))
    found = load_run(run)
    held_out = found.plan.data if holds_out(found) else "SOURCE"
    where = "" if own_task(found.contract, found.plan.task) else f" --offline {held_out}"
    click.echo(f"trained: {run}; see how it does with: vqbet-course eval {run}{where}")


@contextmanager
def resumable(run: Path) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM end a training with the command that continues it, and exit status 130."""
    from vqbet_course.core.progress import close_all

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        close_all()
        begun = (run / "train_state.json").exists()
        click.echo("interrupted" + (f"; continue with: vqbet-course train --resume {run}" if begun else ""), err=True)
        raise click.exceptions.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@cli.command("config")
def config_() -> None:
    """List every field of the configuration: LeRobot's default, what the laptop changes, its meaning."""
    from vqbet_course.core.hyperparameters import listing

    for line in listing():
        click.echo(line)


@cli.command()
def tasks() -> None:
    """List the tasks: what each observes and does, what it needs, its demonstrations, perturbations and behaviours."""
    from vqbet_course.tasks.listing import listing_of_tasks

    for line in listing_of_tasks():
        click.echo(line)


@cli.command("eval")
@click.argument("run")
@click.option("--episodes", type=int, default=50, show_default=True)
@click.option("--seed", type=int, default=100_000, show_default=True, help="The first environment seed.")
@click.option("--videos", type=int, default=3, show_default=True, help="Videos of the first episodes.")
@of_task("the one that RUN was trained on")
@click.option(
    "--perturb",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A perturbation: observation-noise, frozen-frames, delayed-actions, action-noise, and those of the task, "
    "which `vqbet-course tasks` lists.",
)
@click.option(
    "--goal-pose", metavar="X,Y,ANGLE", help="Where the goal is, on PushT in pixels and radians, or `random`."
)
@click.option("--temperature", type=float, help="Draw codes at this temperature.  [default: that of RUN]")
@click.option(
    "--split",
    type=PATH,
    metavar="FILE",
    help="Start where held-out episodes of this split start, instead of at environment seeds.",
)
@click.option(
    "--part",
    type=click.Choice(["val", "stress"]),
    default="val",
    show_default=True,
    help="Which episodes of the split.",
)
@click.option(
    "--offline",
    metavar="SOURCE",
    help="Without an environment: compare with the held-out episodes of these demonstrations.",
)
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    help="[default: RUN/eval/ and a name made of what was asked]",
)
@computing_options
def evaluate(
    run: str,
    temperature: float | None,
    split: Path | None,
    part: str,
    offline: str | None,
    out: Path | None,
    computing: "Computing",
    **asked: Any,
) -> None:
    """Evaluate a policy, and write its metrics, traces, failure labels and videos. RUN: a run directory,
    `shipped`, or `shipped-TASK`."""
    from vqbet_course.evaluation import evaluate as evaluation
    from vqbet_course.evaluation import offline as comparison
    from vqbet_course.training.runs import load_run

    if split is None and given_options({"part"}):
        raise BadInput("--part says which episodes of a split; give --split FILE, too, or leave it out")
    if offline is not None and (given := given_options(asked)):
        raise BadInput(f"--offline needs no environment; leave {', '.join(given)} out")
    loaded = load_run(run, computing)
    folder, at = loaded.output / "eval", ""
    if temperature is not None:
        loaded, at = loaded.at_temperature(temperature), f"-temperature={temperature:g}"
    if offline is not None:
        out = out or folder / ((f"offline-{part}" if split else "offline") + at)
        found = comparison.evaluate_offline(loaded, offline, out, split, part)
        lines = [*comparison.describe_offline(found), f"written: {out / 'offline.json'} and {out / 'offline.html'}"]
    else:
        numbers = {name: asked.pop(name) for name in ("episodes", "seed", "videos")}
        conditions = evaluation.Conditions(split=split, part=part, **asked)
        out = out or folder / (conditions.name(numbers["seed"]) + at)
        result = evaluation.evaluate(loaded, out=out, conditions=conditions, **numbers)
        lines = [*evaluation.summary_lines(result), *evaluation.written_lines(out, result, numbers["videos"])]
    for line in lines:
        click.echo(line)


@cli.command()
@click.argument("run")
@click.option("--rounds", type=int, required=True, help="Rounds: collect corrections, add them, train further.")
@click.option(
    "--by",
    default="expert",
    show_default=True,
    metavar="expert|DIR",
    help="Whose corrections: those of the task's scripted demonstrator, or a folder that was recorded at the board.",
)
@click.option(
    "--how",
    type=click.Choice(["take-over", "label"]),
    default="take-over",
    show_default=True,
    help="The expert acts where the policy gets nowhere (HG-DAgger), or says what it would do (DAgger).",
)
@click.option("--episodes", type=int, default=20, show_default=True, help="Rollouts that are corrected in a round.")
@click.option("--steps", type=int, default=1000, show_default=True, help="Steps of training after each round.")
@click.option("--seed", type=int, default=200_000, show_default=True, help="The first environment seed.")
@click.option("--out", type=PATH, metavar="DIR", help="Where the rounds go.  [default: RUN-corrected]")
def correct(run: str, rounds: int, out: Path | None, **asked: Any) -> None:
    """Correct a policy where it fails: DAgger and HG-DAgger. Continues where it was interrupted; RUN stays as it is."""
    from vqbet_course.experiments import correct as correcting

    if asked["by"] != correcting.EXPERT and (given := given_options({"how", "episodes", "seed"})):
        raise BadInput(f"--by {asked['by']}: what was recorded is taken as it is; leave {', '.join(given)} out")
    report = correcting.correct(correcting.Asked(run, **asked), rounds, out)
    for line in correcting.round_lines(report):
        click.echo(line)
    click.echo(
        f"written: {report['folder']}; see how it does with: vqbet-course eval {report['folder']}/round-{rounds}"
    )


@cli.command()
@click.argument("run")
@click.option("--out", type=PATH, metavar="DIR", help="[default: RUN/pretrained_model]")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["vqbet_course", "vqbet"]),
    default="vqbet_course",
    show_default=True,
    help="For this course's plugin, or as LeRobot's own VQ-BeT.",
)
@click.option(
    "--clip/--no-clip",
    default=True,
    show_default=True,
    help="No number of a command leaves the bounds of the run's task or, without a task, its range in the demonstrations.",
)
@computing_options
def export(run: str, out: Path | None, kind: str, clip: bool, computing: "Computing") -> None:
    """Write a run as a LeRobot checkpoint. RUN is a run directory, `shipped`, or `shipped-TASK`. LeRobot loads it to
    --device."""
    from vqbet_course.lerobot_policy import export_run
    from vqbet_course.training.runs import load_run

    loaded = load_run(run)
    out = out or loaded.output / "pretrained_model"
    clipped = export_run(loaded, out, kind, clip, computing)
    for line in (f"written: {out}", *clipped):
        click.echo(line)


@cli.command("import")
@click.argument("folder", type=PATH, metavar="PRETRAINED_DIR")
@click.option("--out", type=PATH, required=True, metavar="RUN", help="The run directory to make.")
@UNIT
@click.option("--fps", type=float, help="Frames a second.  [default: what the checkpoint or its dataset says]")
def import_(folder: Path, out: Path, units: tuple[str, ...], fps: float | None) -> None:
    """Make a run of a LeRobot checkpoint, of LeRobot's own VQ-BeT or of this course's plugin."""
    from vqbet_course.lerobot_policy import import_checkpoint

    import_checkpoint(folder, out, units, fps)
    click.echo(f"written: {out}")


@cli.command()
@click.option("--policies", default="bc,bet,act,diffusion,flow,vqbet", show_default=True, metavar="NAME,NAME")
@OF_TASK
@DATA
@click.option("--demos", type=int, default=120, show_default=True, help="Demonstrations, chosen by the training seed.")
@click.option("--episodes", type=int, default=30, show_default=True, help="Episodes of each trained policy.")
@SEEDS
@click.option("--minutes", type=float, help="What each training may take.  [default: 5]")
@click.option("--steps", type=int, help="Train each for this many steps instead.")
@click.option("--videos", type=int, default=1, show_default=True, help="Videos of each trained policy.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes side by side.")
@click.option("--dask", metavar="ADDRESS", help="Send the jobs to this Dask scheduler instead.")
@click.option(
    "--out",
    type=PATH,
    required=True,
    metavar="DIR",
    help="Where the panel goes; what is finished there is not done again.",
)
@computing_options
def compare(policies: str, seeds: str, jobs: int, dask: str | None, out: Path, **asked: Any) -> None:
    """Train several policies on the same demonstrations and evaluate them alike. Continues an interrupted panel."""
    from vqbet_course.core.executor import Workers
    from vqbet_course.experiments import panel
    from vqbet_course.experiments.report import ways_lines

    numbers, settings = whole_numbers("--seeds", seeds), settings_of(**asked)
    result = panel.run_panel(policies.split(","), numbers, settings, out, Workers(jobs, dask))
    for line in ways_lines(result["results"]):
        click.echo(line)
    for claim in result["claims"]:
        click.echo(f"{claim['verdict']:>13}: {claim['claim']}: {claim['why']}")
    click.echo(f"written: {out / 'panel.json'} and {out / 'report.html'}")


@cli.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@OF_TASK
@DATA
@SEEDS
@click.option("--minutes", type=float, help="What each run may train, at most 3.")
@click.option("--steps", type=int, help="Train each for this many steps.  [default: 5000]")
@click.option("--episodes", type=int, default=50, show_default=True, help="Episodes of each run.")
@click.option(
    "--out",
    type=PATH,
    default=Path("benchmarks/results/ablations"),
    show_default=True,
    metavar="DIR",
    help="Where results go; what is finished there is not done again.",
)
def ablate(
    names: tuple[str, ...], seeds: str, minutes: float | None, steps: int | None, episodes: int, out: Path, **of: Any
) -> None:
    """Change one thing at a time and measure its effect. NAME is layers, chunk, offset, ...; a wrong one lists them,
    `all` does them all."""
    from vqbet_course.core.budget import Budget
    from vqbet_course.experiments import ablations

    budget = ablations.USUAL if minutes is None and steps is None else Budget(minutes, steps)
    asked = [*ablations.ABLATIONS] if names == ("all",) else names
    numbers = whole_numbers("--seeds", seeds)
    task, data = task_and_data(**of)
    settings = ablations.AblationSettings(data, episodes, budget, task)
    results = ablations.ablate(asked, settings, numbers, out)
    for name, found in results.items():
        click.echo(ablations.conclusion(name, found))


@cli.command()
@click.argument("run", type=PATH)
@click.option("--eval", "name", metavar="NAME", help="Which evaluation below RUN/eval.  [default: the only one]")
def reproduce(run: Path, name: str | None) -> None:
    """Evaluate a saved run again in a fresh clone and environment. Exit status 1: the metrics do not repeat."""
    from vqbet_course.experiments import reproduce as repeating

    verdict = repeating.reproduce(run, name)
    click.echo(repeating.verdict_line(verdict))
    if verdict["uncommitted"]:
        click.echo("the repository holds uncommitted changes: the clone was made without them", err=True)
    if not verdict["reproduced"]:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="DIR...")
@click.option(
    "--recorded",
    type=PATH,
    metavar="FILE",
    help="JSON list of rows measured elsewhere: method, task, success (a list), source.",
)
@click.option("--out", type=PATH, default=Path("_runs/retro.md"), show_default=True)
def retro(paths: tuple[Path, ...], recorded: Path | None, out: Path) -> None:
    """Write the retro page of runs and panels: what was measured, how far it repeats, what is open."""
    from vqbet_course.experiments.retro import retro as write_retro

    click.echo(write_retro(paths, out, recorded))
    click.echo(f"written: {out}")


@cli.command()
@click.argument("name")
@click.option(
    "--judge",
    type=PATH,
    metavar="PANEL",
    help="Judge the hypotheses of the page by this result file or folder.",
)
@click.option("--minutes", type=float, default=5.0, show_default=True, help="Training of each, for the budget.")
@click.option(
    "--speeds",
    type=PATH,
    metavar="PANEL",
    help="Measured speeds, for the budget.  [default: the stored panel's]",
)
@click.option("--out", type=PATH, default=Path("_runs/designs"), show_default=True, metavar="DIR")
def design(name: str, judge: Path | None, minutes: float, speeds: Path | None, out: Path) -> None:
    """Write the page of an experiment before it is run, or judge its hypotheses after."""
    from vqbet_course.experiments import design as designs

    if judge is None:
        click.echo(f"written: {designs.write_design(name, out, minutes, speeds)}")
        return
    for key, verdict in designs.judge_design(name, out, judge).items():
        click.echo(f"{key} {verdict['verdict']}: {verdict['why']}")


class DayAndTime(click.DateTime):
    """A day and a time, like 2026-12-01T23:59."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The time that a text says."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is no day and time: give YYYY-MM-DDTHH:MM, like 2026-12-01T23:59", param, ctx)


RULES = (
    click.option(
        "--keep",
        type=click.Choice(["best", "last"]),
        default="best",
        show_default=True,
        help="Which of a student's attempts counts.",
    ),
    click.option(
        "--due",
        type=DayAndTime(),
        metavar="YYYY-MM-DDTHH:MM",
        help="Day and time when labs were due, in this machine's clock, like 2026-12-01T23:59.",
    ),
    click.option(
        "--penalty",
        type=click.FloatRange(0, 100),
        default=0.0,
        show_default=True,
        help="What each day begun after that costs: percent of the points that the attempt earned.",
    ),
)


def by_rules[F: Callable[..., Any]](command: F) -> F:
    """Give a command the options that say how attempts become a grade; they are the arguments of `Rules`."""
    for option in reversed(RULES):
        command = option(command)
    return command


@cli.command()
@click.argument("submissions", type=PATH, metavar="SUBMISSION|FOLDER|ZIP")
@click.option("--jobs", type=int, default=1, show_default=True, help="Submissions graded at the same time.")
@click.option("--dask", metavar="ADDRESS", help="Grade on the workers of this Dask scheduler.")
@click.option("--execute/--no-execute", default=True, show_default=True, help="Also run each notebook, for its reader.")
@click.option("--regrade", is_flag=True, help="Grade anew what has its grade; attempts and times stay as they are.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Grade only this student or file, by name as in class.html or by number; the rest of the class stays.",
)
@by_rules
@click.option("--require-sandbox", is_flag=True, help="Refuse to grade where bubblewrap does not work.")
@click.option("--out", type=PATH, default=Path("_runs/grades"), show_default=True, metavar="DIR")
def grade(submissions: Path, execute: bool, out: Path, keep: str, due: Any, penalty: float, **how: Any) -> None:
    """Grade a lab, or a folder or zip file of them as a learning platform gives it. --keep, --due and --penalty are for
    the class's page: give those of `gradebook`. Exit status 1: some submission could not be graded."""
    from vqbet_course.core.executor import Workers
    from vqbet_course.grading import grader
    from vqbet_course.grading.gradebook import Rules
    from vqbet_course.grading.submissions import is_one

    options = grader.Options(execute=execute, require_sandbox=how["require_sandbox"])
    workers, wanted = Workers(how["jobs"], how["dask"]), grader.Wanted(how["only"], how["regrade"])
    problems = grader.grade(submissions, out, workers, options, wanted, rules=Rules(keep, due, penalty))
    for name, problem in problems.items():
        click.echo(f"not graded: {name}: {problem}", err=True)
    if not (problems and is_one(submissions)):  # of one submission without a grade there is no page
        click.echo(f"written: {out / 'students' if is_one(submissions) else out / 'class.html'}")
    if problems:
        raise click.exceptions.Exit(1)


@cli.command()
@click.option(
    "--teacher",
    type=PATH,
    metavar="DIR",
    help="Write all lessons with worked solutions, for teachers, into this folder instead.",
)
def labs(teacher: Path | None) -> None:
    """Make the student editions in labs/ from the lessons."""
    from vqbet_course.grading.editions import write_editions, write_teacher_editions

    for path in write_editions() if teacher is None else write_teacher_editions(teacher):
        click.echo(f"written: {path}")


@cli.command()
@click.option("--labs", "numbers", metavar="NN,NN", help="Only these labs, by number.  [default: all]")
@click.option("--out", type=PATH, required=True, metavar="DIR")
def release(numbers: str | None, out: Path) -> None:
    """Write the student editions of this version into a folder to hand out, with their checksums."""
    from vqbet_course.grading.editions import release as release_labs

    written, removed = release_labs(out, numbers.split(",") if numbers is not None else None)
    say_removed(removed)
    for path in written:
        click.echo(f"written: {path}")


GRADES = click.argument("grades", type=PATH, metavar="GRADES")


def say_removed(removed: list[Path]) -> None:
    """Name the files of an earlier run of the same command that it removed."""
    for path in removed:
        click.echo(f"removed, of an earlier run: {path}", err=True)


@cli.command()
@GRADES
@by_rules
@click.option("--out", type=PATH, required=True, metavar="DIR")
def feedback(grades: Path, out: Path, **rules: Any) -> None:
    """Write a page for every submission to hand back. GRADES is the folder that `grade --out` wrote. Give the options of
    `gradebook`, so that pages and grade book say the same."""
    from vqbet_course.grading.gradebook import Rules, existing
    from vqbet_course.grading.report import write_feedback

    written, removed = write_feedback(existing(grades), out, Rules(**rules))
    say_removed(removed)
    click.echo(f"written: {len(written)} pages below {out}")


@cli.command()
@GRADES
@click.option("--format", "kind", type=click.Choice(["moodle", "canvas", "json"]), default="moodle", show_default=True)
@click.option("--lab", metavar="NN", help="Only this lab, by number.  [default: all; Moodle takes one]")
@click.option(
    "--worksheet",
    type=PATH,
    metavar="FILE",
    help="Fill in this grading worksheet, as your Moodle gave it, in whatever language.",
)
@click.option("--grade-column", metavar="NAME", help="The worksheet's column for grades, where that is not clear.")
@by_rules
@click.option("--out", type=PATH, required=True, metavar="FILE")
def gradebook(
    grades: Path, kind: str, lab: str | None, worksheet: Path | None, grade_column: str | None, out: Path, **rules: Any
) -> None:
    """Write the grade book of a class for Moodle or Canvas, or all that is known as JSON. GRADES is the folder that
    `grade --out` wrote."""
    from vqbet_course.core.io import write_json, write_text
    from vqbet_course.grading import gradebook as books
    from vqbet_course.grading import platforms

    if kind != "moodle" and (worksheet or grade_column):
        raise BadInput(f"--format {kind} has no worksheet: --worksheet and --grade-column are Moodle's")
    if grade_column and not worksheet:
        raise BadInput("--grade-column names a column of --worksheet; give that, too")
    rows, rule = books.existing(grades), books.Rules(**rules)
    entries = books.book(rows, rule, lab)
    if kind == "json":
        labs = {entry["lab"] for entry in entries}
        exercises = [e for e in books.item_statistics(books.counted_rows(rows, rule)) if e["lab"] in labs]
        write_json(out, {"students": entries, "exercises": exercises})
    elif worksheet:
        write_text(out, platforms.filled_worksheet(entries, worksheet, grade_column))
    else:
        write_text(out, platforms.as_csv(entries, kind))
    if unknown := platforms.without_number(entries, kind):
        click.echo(f"{kind.capitalize()} will not find, for want of its number: {', '.join(unknown)}", err=True)
    click.echo(f"written: {out}")


@cli.group()
def demos() -> None:
    """Demonstrations: inspect, convert, split and make them.

    SOURCE is `demo`, a LeRobotDataset, a replay buffer (.zarr, .zarr.zip, .npz), an HDF5 file of robomimic, ALOHA or
    ManiSkill, a folder of episode_*/, GELLO's pickles, VQ-BeT's .npy files, a ROS 2 bag, or a dataset id on the hub.
    """


@demos.command()
@click.argument("source")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--out", type=PATH, metavar="DIR", help="Where to draw the plots.")
@click.option(
    "--config",
    type=PATH,
    metavar="FILE",
    help="Count the windows of this config.json.  [default: that of train]",
)
@choosing
@TASK
def inspect(source: str, as_json: bool, out: Path | None, config: Path | None, task: str | None, **chosen: Any) -> None:
    """Say what a source holds, what it yields, and which episodes are unlike the others."""
    import json

    from vqbet_course.core.configuration import VQBeTConfig
    from vqbet_course.core.io import read_json
    from vqbet_course.datasets.choice import choice_of
    from vqbet_course.datasets.inspection import inspect_source, plot, table_of
    from vqbet_course.tasks import open_source, task_of

    asked = read_json(config, VQBeTConfig.from_dict) if config else None
    opened = open_source(source, task=task, choice=choice_of(**chosen))
    inspection, own = inspect_source(opened, asked), task_of(opened.contract)
    click.echo(json.dumps(inspection.report, indent=2) if as_json else table_of(inspection.report))
    if out is not None:
        plot(inspection, out / "inspect.png", own.plot_scene if own else None)
        click.echo(f"written: {out / 'inspect.png'}", err=as_json)


@demos.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, metavar="DIR")
@click.option("--render", is_flag=True, help="Draw the states, where the source has no images and its task can.")
@click.option("--videos", is_flag=True, help="Write images as MP4, in LeRobot's way, instead of PNG.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that read and encode, each on a core that is idle. Each takes 3 s to start: for thousands of images.",
)
@choosing
@TASK
@UNIT
def convert(
    sources: tuple[str, ...], out: Path, render: bool, task: str | None, units: tuple[str, ...], **chosen: Any
) -> None:
    """Write a source, or several end to end, as a LeRobotDataset v3. The same command goes on where it was interrupted."""
    from functools import partial

    from vqbet_course.datasets.choice import choice_of
    from vqbet_course.datasets.writer import what_was_verified, write_dataset
    from vqbet_course.tasks import open_sources, task_before_renaming, task_of

    writing = {name: chosen.pop(name) for name in ("videos", "jobs")}
    if len(sources) > 1 and chosen["drop_episodes"]:
        raise BadInput(
            "--drop-episodes: numbers are those of one source; convert the sources one by one, then join them"
        )
    choice = choice_of(**chosen)
    reopen = partial(open_sources, sources, task, choice, units, render)
    opened = reopen()
    if choice.rename and task is None and task_of(opened.contract) is None:
        for lost in filter(None, (task_before_renaming(text, choice) for text in sources)):
            click.echo(
                f"note: by the names that --rename gives it is not recognised as demonstrations of {lost.title}, which "
                "would give it units, rate and drawings; leave --rename out to keep them",
                err=True,
            )
    for name, why in opened.left_out.items():
        click.echo(f"left out: {name}: {why}", err=True)
    write_dataset(opened, out, reopen=reopen, **writing)
    click.echo(f"written and verified: {out} (compared: {what_was_verified(opened, writing['videos'])})")


@demos.command()
@click.argument("source")
@click.option("--train", "n_train", type=int, help="Episodes to train on.")
@click.option("--val", "n_val", type=int, help="Episodes to hold out, and as many for the stress test.")
@click.option(
    "--parts",
    metavar="TRAIN,VAL[,STRESS]",
    help="Instead: parts that the source states itself, as `inspect` lists them.",
)
@SEED
@click.option("--out", type=PATH, default=Path("_runs/split.json"), show_default=True, metavar="FILE")
@TASK
def split(
    source: str, n_train: int | None, n_val: int | None, parts: str | None, seed: int, out: Path, task: str | None
) -> None:
    """Split a source by episode, and write which episodes are for what."""
    from vqbet_course.core.io import write_json
    from vqbet_course.datasets.splits import split_demos, stated_split
    from vqbet_course.demos import load_demos
    from vqbet_course.tasks import open_source, task_of

    if (parts is None) == (n_train is None or n_val is None):
        raise click.UsageError("give --train N and --val N, or --parts TRAIN,VAL")
    opened = open_source(source, task=task)
    if parts is not None:
        made = stated_split(opened, parts.split(","))
    else:
        made = split_demos(load_demos(opened), n_train or 0, n_val or 0, seed)
    offline = "" if task_of(opened.contract) else f" --offline {source}"
    write_json(out, made.to_dict())
    click.echo(f"{len(made.train)} to train on, {len(made.val)} to validate, {len(made.stress)} for the stress test")
    click.echo(
        f"written: {out}; use it with: vqbet-course train --data {source} --split {out}, then "
        f"vqbet-course eval RUN{offline} --split {out}"
    )


@demos.command()
@click.option("--task", default=DEFAULT_TASK, show_default=True, metavar="TASK", help="Whose demonstrator.")
@click.option("--episodes", type=int, default=200, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="The first seed.")
@click.option("--noise", type=float, help="How far the hand is shaken, in pixels.  [default: the task's]")
@click.option(
    "--style",
    type=click.Choice(["left", "right", "mixed"]),
    help="On PushT: which way round the T, one or both.  [default: mixed]",
)
@click.option("--out", type=PATH, required=True, metavar="DIR")
def make(task: str, episodes: int, seed: int, noise: float | None, style: str | None, out: Path) -> None:
    """Write demonstrations by the task's scripted demonstrator as a LeRobotDataset with a data card."""
    from vqbet_course.datasets.writer import write_dataset
    from vqbet_course.tasks import get_task

    options = {name: value for name, value in (("noise", noise), ("style", style)) if value is not None}
    write_dataset(get_task(task).demonstrations(episodes, seed, **options), out)
    click.echo(f"written: {out}")


def training_of(
    *, device: str, precision: str, threads: int | None, minutes: float | None, steps: int | None, **asked: Any
) -> dict[str, Any]:
    """The arguments of `trainer.train` that the options of `train` state."""
    from vqbet_course.core.budget import Budget
    from vqbet_course.core.hyperparameters import changes_from
    from vqbet_course.tasks.listing import data_of
    from vqbet_course.training.data import Fitted
    from vqbet_course.training.devices import Computing
    from vqbet_course.training.trainer import Selection

    changes = changes_from(asked.pop("config"), asked.pop("settings"))
    made = {"config": Fitted(changes, asked.pop("weights")), "seed": asked.pop("seed")}
    asked |= {"data": data_of(asked["task"], asked["data"])}
    if asked["observe"] is not None:
        asked |= {"observe": asked["observe"].split(",")}
    computing = Computing.asked(device, precision, threads)
    return made | {"data": Selection(**asked), "budget": Budget(minutes, steps), "computing": computing}


def task_and_data(task: str | None, data: str | None) -> tuple[str, str]:
    """The task, by default the one that the data show, and the SOURCE, by default the task's own.

    Raises BadInput for data that show none, and for a task that has none."""
    from vqbet_course.tasks import open_source, task_of
    from vqbet_course.tasks.listing import data_of

    if task is None and data is not None:
        own = task_of(open_source(data).contract)
        if own is None:
            raise BadInput(f"{data}: of no task that is known; say with --task whose demonstrations they are")
        task = own.name
    task = task or DEFAULT_TASK
    return task, data_of(task, data)


def settings_of(
    task: str | None,
    data: str | None,
    minutes: float | None,
    steps: int | None,
    computing: "Computing",
    **asked: int,
) -> "Settings":
    """The settings of a panel that the options of `compare` state; 5 minutes where they state no budget."""
    from vqbet_course.core.budget import Budget
    from vqbet_course.experiments.panel import Settings

    budget = Budget(5.0 if minutes is None and steps is None else minutes, steps)
    task, data = task_and_data(task, data)
    return Settings(data, budget=budget, task=task, device=computing.device, precision=computing.precision, **asked)


def given_options(names: Iterable[str]) -> list[str]:
    """Those of the running command's options that the user gave, as they are typed, of the parameters `names`."""
    context, names = click.get_current_context(), set(names)
    default = click.core.ParameterSource.DEFAULT
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is not default
    ]


def whole_numbers(option: str, text: str) -> list[int]:
    """`1,2,3` as numbers."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise BadInput(f"{option} {text}: give whole numbers with commas between") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done; 1: it ran, and something failed; 2: it cannot be done as asked, and one line says why and what
    to do; 130: interrupted. None of these prints a traceback; a traceback is a bug of the course.
    """
    try:
        return cli.main(argv, prog_name="vqbet-course", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as alone:
        alone.show()  # the list of commands
        return alone.exit_code
    except click.ClickException as problem:
        return refuse(usage_line(problem))
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BadInput as problem:
        return refuse(str(problem))
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            where = f" for {problem.filename}" if problem.filename else ""
            return refuse(f"no space left on device{where}: free some and run it again, nothing is lost")
        raise


def usage_line(problem: click.ClickException) -> str:
    """What is wrong with a command line, and where its help is."""
    context = problem.ctx if isinstance(problem, click.UsageError) else None
    said = problem.format_message().rstrip(".")
    command = context.command_path if context else "vqbet-course COMMAND"
    return f"{said}{'' if said.endswith('?') else ';'} see: {command} --help"


def refuse(why: str) -> int:
    """Print `why` as one line on stderr, behind all progress, and return exit status 2."""
    from vqbet_course.core.progress import close_all

    close_all()
    click.echo(f"error: {' '.join(why.split())}", err=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
