"""How good are the policies that come with the course? One for PushT, one for block_push, one for ALOHA's transfer.

    python benchmarks/shipped.py                                        evaluates all three
    python benchmarks/shipped.py --only shipped-block_push
    python benchmarks/shipped.py --only shipped-block_push --keep RUN   ships this run, then evaluates it

The result, with the commands that make it, goes to results/NAME.json, which `vqbet-course reproduce NAME` repeats.

PushT's policy was trained once, before later codes were taught with the true first one. Then `bet_softmax_temperature` was
set to 0.5 in its config.json: of 0.3, 0.4 and 0.5 the best on starts from 201000. block_push's averaged chunks in its first
evaluations; that it looks again at every step was chosen on starts from 251000 and 252000 (98 against 95 % of 500).
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file

from vqbet_course.core.io import write_json
from vqbet_course.training.integrity import NORMALIZER, WEIGHTS, record_checksums
from vqbet_course.training.runs import SHIPPED, TrainingPlan, load_run

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Recipe:
    """How a shipped policy was made: its task, how many demonstrations from which environment seed, the options of its
    training, and how many episodes evaluate it."""

    task: str
    demos: int
    first: int
    options: tuple[str, ...]
    episodes: int

    def commands(self, name: str, plan: TrainingPlan, evaluate: list[str]) -> list[str]:
        """The commands that train and evaluate it."""
        own = [] if self.task == "pusht" else ["--task", self.task]
        make = ["demos", "make", *own, "--episodes", str(self.demos)]
        make += ["--seed", str(self.first)] if self.first else []
        train = ["train", "--data", plan.data, "--steps", str(plan.steps), "--seed", str(plan.seed), *self.options]
        steps = [[*make, "--out", plan.data], [*train, "--out", f"_runs/{name}"], evaluate]
        return [" ".join(["vqbet-course", *step]) for step in steps]


OLDER = ("teacher_forcing=false", "bet_softmax_temperature=0.3", "average_chunks=false")
OLDER += ("dropout=0.05", "optimizer_weight_decay=0.01")
SMALL = ("--set", "batch_size=128", "--set", "vqvae_batch_size=256", "--set", "n_vqvae_training_steps=700")
SMALL += ("--set", "gpt_input_dim=112", "--set", "gpt_output_dim=112", "--set", "bet_softmax_temperature=0.3")
RECIPES = {
    "shipped": Recipe("pusht", 1000, 0, tuple(word for change in OLDER for word in ("--set", change)), 200),
    "shipped-block_push": Recipe("block_push", 200, 0, ("--set", "n_vqvae_training_steps=800"), 100),
    "shipped-aloha-transfer": Recipe("aloha-transfer", 100, 200_000, SMALL, 100),
}
"""{name of a shipped policy: recipe}."""


def keep(run: Path, name: str) -> None:
    """Ship a run: what is needed to act, its plan and its split, with weights of 16 bits."""
    folder = SHIPPED.parent / name
    folder.mkdir(exist_ok=True)
    for part in ("config.json", "contract.json", NORMALIZER, "split.json", "train_state.json"):
        shutil.copy(run / part, folder / part)
    tensors = load_file(run / WEIGHTS)
    halved = {key: value.half() if value.dtype == torch.float32 else value for key, value in tensors.items()}
    save_file(halved, folder / WEIGHTS)
    record_checksums(folder)


def evaluate(name: str) -> None:
    """Evaluate a shipped policy, and write its result."""
    recipe, plan, out = RECIPES[name], load_run(name).plan, Path("_runs") / name / "eval" / "seed-100000"
    asked = ["eval", name, "--episodes", str(recipe.episodes), "--seed", "100000", "--videos", "0", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "vqbet_course.cli", *asked], check=True)
    by = "the same expert" if recipe.task == "pusht" else "the scripted demonstrator"
    write_json(
        RESULTS / f"{name}.json",
        json.loads((out / "run.json").read_text())
        | {
            "trained_on": f"It was trained for {plan.steps:,} steps on {recipe.demos:,} demonstrations by {by}.",
            "commands": recipe.commands(name, plan, asked),
        },
    )


@click.command()
@click.option("--only", type=click.Choice([*RECIPES]), help="Only this policy.")
@click.option("--keep", "run", type=click.Path(path_type=Path), help="First ship this run as that policy.")
def main(only: str | None, run: Path | None) -> None:
    """Evaluate what is shipped."""
    if run is not None:
        if only is None:
            raise click.UsageError("--keep needs --only: as which policy?")
        keep(run, only)
    for name in [only] if only else RECIPES:
        evaluate(name)


if __name__ == "__main__":
    main()
