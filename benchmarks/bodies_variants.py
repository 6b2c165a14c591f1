"""What decides success on block_push and on ALOHA's transfer? One change at a time, each a short training of VQ-BeT.

    python benchmarks/bodies_variants.py
    python benchmarks/bodies_variants.py --only aloha-transfer

A variant is `vqbet-course train` with one option more and `vqbet-course eval`, two commands that anyone can type; what was
found, with both, goes to results/variants_TASK.json as soon as it is there, and is not done again. Steps are few, so that
differences show: a longer training, like that of the shipped policies, hides some of them.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import click

from vqbet_course.core.configuration import LAPTOP, VQBeTConfig
from vqbet_course.core.io import write_json
from vqbet_course.core.records import made_by
from vqbet_course.demos import load_demos
from vqbet_course.evaluation.behaviour import behaviours_of_demos
from vqbet_course.tasks import get_task, open_source

RESULTS, RUNS = Path(__file__).parent / "results", Path("_runs") / "variants"
FIRST_DEMONSTRATION = 300_000
"""The environment seed of the first demonstration: no policy is tuned or evaluated from there."""

SHORT = "batch_size=128 vqvae_batch_size=256 n_vqvae_training_steps=700"
"""Settings that all variants share: a step costs half of what it does in a long training."""


class Body(NamedTuple):
    """A task: how many demonstrations, how many steps, and the chunk lengths that are tried."""

    demos: int
    steps: int
    chunks: tuple[int, ...]


BODIES = {"block_push": Body(200, 5_000, (1, 4, 8, 16)), "aloha-transfer": Body(100, 3_000, (1, 5, 20, 50))}

QUESTIONS: dict[str, dict[str, str]] = {
    "layers": {
        "1 layer of codes": "vqvae_n_layers=1 sequentially_select=false",
        **{f"{layers} layers of codes": f"vqvae_n_layers={layers}" for layers in (2, 3, 4)},
    },
    "offset": {
        "offset of the sampled code": "offset_code=sampled",
        "offset of the true code": "offset_code=ground_truth",
    },
    "acting": {"overlapping chunks averaged": "average_chunks=true", "the last chunk alone": "average_chunks=false"},
}
"""{question: {variant: settings}}, the same on each body."""


class Variant(NamedTuple):
    """An answer that is tried: its question, its name, settings, and the demonstrations: a folder, and which are left out."""

    question: str
    name: str
    settings: str
    data: Path
    dropped: str = ""


def vqbet_course(arguments: Sequence[str]) -> None:
    """Run a command of the course. Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "vqbet_course.cli", *arguments], check=True)


def demonstrations(task: str, noise: float | None = None) -> Path:
    """The folder with a task's demonstrations, made where it is not there yet; noise: None for the task's own."""
    out = RUNS / f"{task}-demos{'' if noise is None else f'-noise-{noise:g}'}"
    if not out.exists():
        asked = ["--task", task, "--episodes", str(BODIES[task].demos), "--seed", str(FIRST_DEMONSTRATION)]
        vqbet_course(
            ["demos", "make", *asked, *([] if noise is None else ["--noise", f"{noise:g}"]), "--out", str(out)]
        )
    return out


def variants(task: str) -> list[Variant]:
    """All variants of a task."""
    own = demonstrations(task)
    found = [
        Variant("chunk", f"chunks of {w}", f"action_chunk_size={w} n_action_steps={max(1, w // 2)}", own)
        for w in (BODIES[task].chunks)
    ]
    found += [Variant(q, name, said, own) for q, names in QUESTIONS.items() for name, said in names.items()]
    steady = demonstrations(task, 0.0)
    found += [Variant("noise", "hand shaken", "", own), Variant("noise", "hand steady", "", steady)]
    return [*found, *one_way_or_all(task, own)]


def one_way_or_all(task: str, data: Path) -> list[Variant]:
    """As many demonstrations of the demonstrator's most frequent way as of all its ways."""
    ways = behaviours_of_demos(load_demos(open_source(str(data), task=task)), get_task(task))
    frequent = max(sorted({*ways}), key=ways.count)
    one = [i for i, way in enumerate(ways) if way == frequent]
    sets = {f"{len(one)} demonstrations of one way": one, f"{len(one)} of all ways": list(range(len(one)))}
    return [
        Variant(
            "ways",
            name,
            "",
            data,
            ",".join(str(i) for i in range(len(ways)) if i not in kept),
        )
        for name, kept in sets.items()
    ]


def changes(task: str, variant: Variant) -> list[str]:
    """The settings of a variant, less those that are the task's own."""
    usual = {f.name: f.default for f in fields(VQBeTConfig)} | LAPTOP | dict(get_task(task).laptop)
    said = [setting.split("=") for setting in variant.settings.split()]
    return [f"{name}={value}" for name, value in said if json.dumps(usual.get(name)) not in (value, json.dumps(value))]


def measured(task: str, variant: Variant, seed: int, episodes: int) -> dict[str, Any]:
    """Train and evaluate a variant; variants with the same settings and demonstrations share both."""
    own = changes(task, variant)
    settings = [*SHORT.split(), *own]
    drop = ["--drop-episodes", variant.dropped] if variant.dropped else []
    of = [variant.data.name, *own, *([variant.name] if drop else []), f"seed{seed}"]
    run = RUNS / "-".join(of).replace("=", "-").replace(" ", "-")
    train = ["train", "--data", str(variant.data), "--steps", str(BODIES[task].steps), "--seed", str(seed), *drop]
    train += [word for setting in settings for word in ("--set", setting)] + ["--out", str(run)]
    evaluate = ["eval", str(run), "--episodes", str(episodes), "--videos", "0"]
    result = run / "eval" / "seed-100000" / "run.json"
    if not (run / "model.safetensors").exists():
        vqbet_course(["train", "--resume", str(run)] if (run / "train_state.json").exists() else train)
    if not result.exists():
        vqbet_course(evaluate)
    found = json.loads(result.read_text())
    return {
        "question": variant.question,
        "variant": variant.name,
        "seed": seed,
        **{key: found[key] for key in ("task", "metrics", "episodes")},
        "commands": [shlex.join(["vqbet-course", *command]) for command in (train, evaluate)],
    }


@click.command()
@click.option("--only", type=click.Choice([*BODIES]), multiple=True, help="Only these tasks.")
@click.option("--seed", default=1, show_default=True, help="The training seed.")
@click.option("--episodes", default=30, show_default=True, help="Starts of each evaluation.")
def main(only: tuple[str, ...], seed: int, episodes: int) -> None:
    """Measure what is not measured yet."""
    for task in only or BODIES:
        path = RESULTS / f"variants_{task}.json"
        rows = json.loads(path.read_text())["rows"] if path.exists() else []
        for variant in variants(task):
            if any((row["question"], row["variant"], row["seed"]) == (*variant[:2], seed) for row in rows):
                continue
            rows.append(measured(task, variant, seed, episodes))
            command = f"python benchmarks/bodies_variants.py --only {task}"
            seeds = sorted({row["seed"] for row in rows})
            shared = {"task": task, "command": command, "seeds": seeds, "steps": BODIES[task].steps}
            write_json(path, shared | {"made_by": made_by(), "rows": rows})


if __name__ == "__main__":
    main()
