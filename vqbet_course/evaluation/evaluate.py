"""The evaluator behind `vqbet-course eval`: figures, traces, failure labels and films of a trained policy."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from tqdm.auto import tqdm

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_atomically, write_json, write_text
from vqbet_course.core.records import made_by
from vqbet_course.core.specs import GOAL, Contract, TaskContract
from vqbet_course.datasets.source import UNSTATED
from vqbet_course.demos import Normalizer, load_demos
from vqbet_course.evaluation.behaviour import behaviour, mode_entropy, recovery
from vqbet_course.evaluation.failures import Known, failures_of, keep_persons_word
from vqbet_course.evaluation.offline import action_error, from_starts, held_back
from vqbet_course.evaluation.videos import frames, write_film
from vqbet_course.goals import goal_environment
from vqbet_course.rollout import Episode, Policy, describe, latency, measures, rollouts
from vqbet_course.tasks import get_task, open_source
from vqbet_course.tasks.perturbations import perturbed
from vqbet_course.tasks.pusht.image_observation import filmed
from vqbet_course.training.runs import Run


def assess(policy: Policy, normalizer: Normalizer, make: Callable[[], gym.Env], seeds: Sequence[int],
           quiet: bool = True) -> tuple[list[Episode], dict[str, Any]]:
    """Episodes on these environment seeds, and all figures of them: success and coverage, latency, behaviour."""
    played = rollouts(policy, normalizer, seeds, make, quiet=quiet)
    figures = measures(played) | latency(policy, normalizer, seeds[0], make)
    speaks = bool(played[0].tokens[0])
    figures["behaviour"] = behaviour(played) | {
        "mode_entropy": mode_entropy(policy, normalizer, seeds[0], make) if speaks else None}
    figures["recovery"] = recovery(played)
    return played, figures


def evaluate(run: Run, episodes: int = 50, seed: int = 100_000, out: Path | None = None, videos: int = 3,
             env: str = "pusht", perturb: Sequence[str] = (), goal_pose: str | None = None,
             split: Path | None = None, part: str = "val", quiet: bool = False) -> dict[str, Any]:
    """Roll a trained policy out on environment seeds seed, seed + 1, ...; write run.json, traces.parquet,
    failures.json and films of the first episodes into `out` (RUN/eval/NAME unless given). `goal_pose`: where PushT's
    goal is, as `x,y,angle` or `random`. `split`: start instead where those episodes of the demonstrations start that
    the split in this file holds back as `part`, `val` or `stress`, as many of them as `episodes`; the seed of an
    episode is then the number of its demonstration, and the action error on them is a figure, too.

    Returns what run.json holds. Raises BadInput for numbers out of range, an unknown environment or perturbation, a
    split that was trained on, and for a policy whose contract is not the environment's."""
    if episodes < 1 or videos < 0 or seed < 0:
        raise BadInput("episodes must be at least 1, videos and seed at least 0")
    shown = run.policy.config.goal_shape is not None
    held = held_back(split, part, run) if split else None
    seeds = held.episodes[:episodes] if held else range(seed, seed + episodes)
    scene = goal_environment(from_starts(get_task(env).make_env, held), goal_pose, shown)
    make = perturbed(filmed(scene, [*run.policy.config.image_shapes]), perturb)
    task: TaskContract = make().get_wrapper_attr("contract")
    task = replace(task, data=task.data.observing(run.contract.observation))
    differs = run.contract.difference(task.data)
    if differs:
        hint = "; state units with: vqbet-course demos convert ... --unit FEATURE=UNIT" if UNSTATED in differs else ""
        raise BadInput(f"{run.path}: trained on other data than {env} gives; {differs}{hint}")
    out = Path(out) if out else run.path / "eval" / name_of(part if held else f"seed-{seed}", perturb, goal_pose)
    played, figures = assess(run.policy, run.normalizer, make, seeds, quiet)
    if held:
        figures["action_error"] = action_error(run, held)
        write_json(out / "split.json", held.split.to_dict())
    told: TaskContract = scene().get_wrapper_attr("contract")  # all numbers, which are what the traces hold
    failures = keep_persons_word(out / "failures.json", failures_of(played, told, visited(run, told)))
    result = {
        "schema": "vqbet_course/run/1",
        "contract": task.to_dict(),
        "perturb": list(perturb),
        "goal_pose": goal_pose,
        "config": run.policy.config.to_dict(),
        "data": run.plan.data,
        "training": asdict(run.plan),
        "seed": seeds[0],
        "split": {"file": str(split), "part": part} if held else None,
        "metrics": figures,
        "episodes": [e.summary() | {"failure": failures.get(str(e.seed))} for e in played],
        "made_by": made_by(),
    }
    text = json.dumps(result, indent=2)
    write_text(out / "run.json", text + "\n")
    write_traces(out / "traces.parquet", played, told.data)
    to_film = played[:videos] if drawn(make) else []
    for episode in tqdm(to_film, desc="films", unit="film", disable=quiet or not to_film):
        write_film(out / f"episode-{episode.seed}.mp4", frames(episode, make))
    return json.loads(text)


def name_of(starts: str, perturb: Sequence[str], goal_pose: str | None) -> str:
    """What an evaluation is called below RUN/eval: one that is disturbed, or told another goal, is another."""
    return "-".join([starts, *perturb, *([f"goal={goal_pose}"] if goal_pose else [])])


def in_words(result: dict[str, Any]) -> list[str]:
    """What is told of a run.json, line by line."""
    figures, task = result["metrics"], TaskContract.from_dict(result["contract"])
    spent, back = figures["latency_ms"], figures["recovery"]
    lines = [describe(figures), f"a decision takes {spent['p50']:.1f} ms (p50), {spent['p95']:.1f} ms (p95); "
             f"{figures['timing_violations']:.0%} of the steps take longer than {task.timing_budget_ms:g} ms"]
    if "action_error" in figures:
        lines.append(f"action error on the demonstrations held back: {figures['action_error']:.1f} {task.data.action.unit}")
    if back["shoved"]:
        after = f", half of them within {back['steps_p50']:g} steps" if back["recovered"] else ""
        lines.append(f"a shove cost coverage in {back['shoved']} episodes: {back['recovered']} got it back{after}")
    failures = [e["failure"] for e in result["episodes"] if e["failure"]]
    if failures:
        labels = Counter(failure["person"] or failure["label"] for failure in failures)
        lines.append(f"{len(failures)} failed: {', '.join(f'{label} {n}' for label, n in labels.most_common())}")
    return lines


def visited(run: Run, task: TaskContract) -> Known | None:
    """What the demonstrations that a run was trained on visited; None where they are not on this machine, or do not tell
    all the numbers that the environment does."""
    names = [name for name in task.data.observation if name != GOAL]
    try:
        demos = load_demos(open_source(run.plan.data, task=run.plan.task), names)
    except BadInput:
        return None
    return Known.of(demos, run.normalizer if run.normalizer.bounds.keys() >= {*names} else Normalizer.fit(demos))


def drawn(make: Callable[[], gym.Env]) -> bool:
    """Whether films of this environment can be made."""
    return make().render_mode == "rgb_array"


def write_traces(path: Path, episodes: Sequence[Episode], data: Contract) -> None:
    """All steps of all episodes as one parquet file, whole or not at all: a row a step. What the numbers of a column
    are, and in which units, stands in the file's metadata, as JSON under `units`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"observation": "observations", "truth": "truth", "tokens": "tokens", "code": "codes",
               "offset": "offsets", "action": "actions", "decided": "decided", "coverage": "coverage",
               "latency_ms": "latency_ms", "intervention": "intervention", "contact": "contact"}
    lengths = [len(e.coverage) for e in episodes]
    rows: dict[str, Any] = {
        "seed": [e.seed for e, n in zip(episodes, lengths, strict=True) for _ in range(n)],
        "batch": [e.batch for e, n in zip(episodes, lengths, strict=True) for _ in range(n)],
        "time": [step / data.fps for n in lengths for step in range(n)],
    }
    for column, name in columns.items():
        values = [value for e in episodes for value in getattr(e, name)]
        lists = isinstance(values[0], np.ndarray | tuple)
        rows[column] = [list(value) for value in values] if lists else values
    seen = {name: str(values) for name, values in data.observation.items()}
    units = {"time": "s", "observation": seen, "truth": seen, "latency_ms": "ms", "coverage": "share of the goal, 0..1",
             **dict.fromkeys(("code", "offset", "action"), str(data.action))}
    table = pa.table(rows).replace_schema_metadata({"units": json.dumps(units)})
    write_atomically(path, lambda partial: pq.write_table(table, partial, compression="zstd"))
