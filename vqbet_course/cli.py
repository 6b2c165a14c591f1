"""`vqbet-course`, a thin door: it parses, calls the module that does the work, and prints.

Commands import what they need when they are called, so that `--help` loads neither torch nor lerobot.
A command that cannot go on raises `BadInput`; `main` makes one line and exit status 2 of it.
"""
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from vqbet_course import __version__
from vqbet_course.contract import BadInput
from vqbet_course.profiles import CELL_TIMEOUT_S


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vqbet-course")
def cli() -> None:
    """VQ-BeT from nothing to a robot that pushes the T."""


@cli.command()
@click.option("--profile", type=click.Choice(list(CELL_TIMEOUT_S)), default="quick", show_default=True,
              help="How much each lesson trains and evaluates.")
@click.option("--only", metavar="NN,NN", help="Run these lessons, by number, instead of all.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("_runs/course"), show_default=True,
              help="Where the executed lessons and the report go.")
def course(profile: str, only: str | None, out: Path) -> None:
    """Run the lessons from top to bottom and write a report. Exit status 1: a lesson failed."""
    from vqbet_course.course import run_course

    results = run_course(out, profile=profile, only=only.split(",") if only is not None else None)
    if not all(result.ok for result in results):
        raise click.exceptions.Exit(1)


@cli.command()
@click.option("--data", default="demo", show_default=True, metavar="SOURCE",
              help="`demo`, an .npz of PushT states, a LeRobotDataset folder, or a dataset id on the hub.")
@click.option("--minutes", type=float, help="Train for about this long: calibrates, then fixes the steps.")
@click.option("--steps", type=int, help="Train for exactly this many steps of both stages together.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--mirror/--no-mirror", default=None, help="Add each PushT demonstration's mirror image. [default: PushT]")
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="The run directory to make.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="The interrupted run to continue.")
def train(data: str, minutes: float | None, steps: int | None, seed: int, mirror: bool | None, out: Path | None,
          resume: Path | None) -> None:
    """Train a VQ-BeT: first the tokenizer, then the policy."""
    from vqbet_course import train as training

    if (out is None) == (resume is None):
        raise click.UsageError("give --out RUN for a new run or --resume RUN for an interrupted one")
    if resume is not None:
        if minutes is not None or steps is not None:
            raise click.UsageError("--resume takes its steps from the run; leave --minutes and --steps out")
        training.resume(resume)
    elif out is not None:
        training.train(data, out, steps=steps, minutes=minutes, seed=seed, mirror=mirror)
    click.echo(f"trained: {out or resume}; see how it does with: vqbet-course eval {out or resume}")


@cli.command("eval")
@click.argument("run")
@click.option("--episodes", type=int, default=50, show_default=True)
@click.option("--seed", type=int, default=100_000, show_default=True, help="The first environment seed.")
@click.option("--videos", type=int, default=3, show_default=True, help="Films of the first episodes.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: RUN/eval/seed-SEED]")
def evaluate(run: str, episodes: int, seed: int, videos: int, out: Path | None) -> None:
    """Roll a policy out in PushT. RUN is a run directory or `shipped`."""
    from vqbet_course import rollout
    from vqbet_course.train import load_run

    if run == "shipped" and out is None:
        out = Path("_runs/shipped/eval") / f"seed-{seed}"
    loaded = load_run(run)
    out = out or loaded.path / "eval" / f"seed-{seed}"
    click.echo(rollout.describe(rollout.evaluate(loaded, episodes, seed, out, videos)["metrics"]))
    click.echo(f"written: {out / 'run.json'}")


@cli.command()
@click.argument("submissions", type=click.Path(path_type=Path), metavar="SUBMISSION.ipynb|FOLDER")
@click.option("--jobs", type=int, default=1, show_default=True, help="Submissions graded at the same time.")
@click.option("--dask", metavar="ADDRESS", help="Grade on the workers of this Dask scheduler.")
@click.option("--execute/--no-execute", default=True, show_default=True,
              help="Also run each notebook, for its reader.")
@click.option("--require-sandbox", is_flag=True, help="Refuse to grade where bubblewrap does not work.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("_runs/grades"), show_default=True, metavar="DIR")
def grade(submissions: Path, jobs: int, dask: str | None, execute: bool, require_sandbox: bool, out: Path) -> None:
    """Grade a lab, or a folder of them. Exit status 1: some submission could not be graded."""
    from vqbet_course.grading import grader

    problems = grader.grade(submissions, out, jobs, dask, execute, require_sandbox)
    for name, problem in problems.items():
        click.echo(f"not graded: {name}: {problem}", err=True)
    click.echo(f"written: {out / ('class.html' if submissions.is_dir() else submissions.stem + '/report.html')}")
    if problems:
        raise click.exceptions.Exit(1)


@cli.command()
def labs() -> None:
    """Make the student editions in labs/ from the lessons."""
    from vqbet_course.grading.editions import write_editions

    for path in write_editions():
        click.echo(f"written: {path}")


@cli.group()
def demos() -> None:
    """Demonstrations: make them."""


@demos.command()
@click.option("--episodes", type=int, default=200, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="The first environment seed.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
def make(episodes: int, seed: int, out: Path) -> None:
    """Let the scripted expert push the T, and write what it solved as a LeRobotDataset."""
    from vqbet_course.expert import make_demos

    make_demos(episodes, seed, out)
    click.echo(f"written: {out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done; 1: it ran, and something failed; 2: it cannot be done as asked, and one line says why and what
    to do; 130: interrupted. None of these prints a traceback; a traceback is a bug of the course.
    """
    try:
        return cli.main(argv, prog_name="vqbet-course", standalone_mode=False) or 0
    except click.ClickException as problem:
        problem.show()
        return problem.exit_code
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


def refuse(why: str) -> int:
    """Print `why` as one line on stderr and return exit status 2."""
    click.echo(f"error: {' '.join(why.split())}", err=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
