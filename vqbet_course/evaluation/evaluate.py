"""The evaluator behind `vqbet-course eval`: metrics, traces, failure labels and videos of a trained policy."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vqbet_course.core.errors import BadInput, CannotRender
from vqbet_course.core.io import write_atomically, write_json, write_text
from vqbet_course.core.progress import progress
from vqbet_course.core.records import made_by
from vqbet_course.core.specs import GOAL, Contract, TaskContract
from vqbet_course.core.units import short
from vqbet_course.demos import Demos, Normalizer
from vqbet_course.evaluation.behaviour import behaviour, mode_entropy, recovery, ways_in_words, ways_of_solving
from vqbet_course.evaluation.failures import Known, failures_of, keep_persons_word
from vqbet_course.evaluation.held_out import (
    HeldOut,
    difference_with_remedy,
    held_out,
    held_out_action_error,
    training_demos,
)
from vqbet_course.evaluation.latency import latency
from vqbet_course.evaluation.results import progress_name_of
from vqbet_course.evaluation.videos import video_frames, video_rate, write_video
from vqbet_course.goals import with_shown_goal
from vqbet_course.rollout import (
    Policy,
    Rollout,
    World,
    metrics_in_words,
    rollout_metrics,
    rollouts,
)
from vqbet_course.tasks import DEFAULT_TASK, as_task, get_task, own_task
from vqbet_course.tasks.task import Task
from vqbet_course.training.runs import Run


def assess(
    policy: Policy, normalizer: Normalizer, world: World, seeds: Sequence[int], quiet: bool = True
) -> tuple[list[Rollout], dict[str, Any]]:
    """Rollouts on these environment seeds, and all metrics of them: success and coverage, latency, behaviour."""
    task = as_task(world)
    episodes = rollouts(policy, normalizer, seeds, task, quiet=quiet)
    metrics = rollout_metrics(episodes, task) | latency(policy, normalizer, seeds[0], task)
    has_codes = bool(episodes[0].tokens[0])
    metrics["behaviour"] = behaviour(episodes) | {
        "mode_entropy": mode_entropy(policy, normalizer, seeds[0], task) if has_codes else None
    }
    metrics["recovery"] = recovery(episodes)
    return episodes, metrics


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under which conditions a policy is evaluated.

    task, by default the one that the run was trained on; perturb, `NAME` or `NAME=value` each; goal_pose, where the goal
    is, on PushT `x,y,angle` or `random`; split, a file: start where the episodes start that this split holds out as
    `part`, `val` or `stress`, as many of them as are evaluated."""

    task: str | None = None
    perturb: Sequence[str] = ()
    goal_pose: str | None = None
    split: Path | None = None
    part: str = "val"

    def name(self, seed: int) -> str:
        """The folder of an evaluation below RUN/eval: one with perturbations or another goal has another name."""
        starts = self.part if self.split else f"seed-{seed}"
        return "-".join([starts, *self.perturb, *([f"goal={self.goal_pose}"] if self.goal_pose else [])])


def evaluate(
    run: Run,
    episodes: int = 50,
    seed: int = 100_000,
    out: Path | None = None,
    videos: int = 3,
    conditions: Conditions = Conditions(),
    quiet: bool = False,
) -> dict[str, Any]:
    """Roll a trained policy out on environment seeds seed, seed + 1, ...; write run.json, traces.parquet,
    failures.json and videos of the first episodes into `out` (RUN/eval/NAME unless given). Returns what run.json holds.

    With a split among the conditions, the seed of an episode is the number of its demonstration, and the action error on
    the held-out episodes is a metric, too. Raises BadInput for numbers out of range, an unknown task or perturbation, a
    split that was trained on, and a policy whose contract is not the task's."""
    if episodes < 1 or videos < 0 or seed < 0:
        raise BadInput("episodes must be at least 1, videos and seed at least 0")
    asked, base = conditions, task_of_run(run, conditions.task)
    held = held_out(asked.split, asked.part, run) if asked.split else None
    seeds = held.episodes[:episodes] if held else range(seed, seed + episodes)
    scene = scene_of(base, run, held, asked.goal_pose)
    world = scene.with_cameras([*run.policy.config.image_shapes]).perturbed(asked.perturb)
    contract = checked_contract(world, run)
    out = Path(out) if out else run.path / "eval" / asked.name(seed)
    played, metrics = assess(run.policy, run.normalizer, world, seeds, quiet)
    if held:
        metrics["action_error"] = held_out_action_error(run, held)
        write_json(out / "split.json", held.split.to_dict())
    numbers: TaskContract = scene.make_env().get_wrapper_attr("contract")  # of all numbers, as the traces hold them
    shown = demos_trained_on(run, numbers)
    metrics |= ways_of_solving(played, base, shown)
    found = failures_of(played, numbers, visited(run, shown), base.failure_rules)
    failures = keep_persons_word(out / "failures.json", found, base.failure_rules)
    result = {
        "schema": "vqbet_course/run/1",
        "task": asked.task or run.plan.task or base.name,
        "contract": contract.to_dict(),
        "success_progress": base.success_progress,
        "progress_name": base.progress_name,
        "perturb": list(asked.perturb),
        "goal_pose": asked.goal_pose,
        **described(run),
        "seed": seeds[0],
        "split": {"file": str(asked.split), "part": asked.part} if held else None,
        "metrics": metrics,
        "episodes": [e.summary() | {"failure": failures.get(str(e.seed))} for e in played],
        "made_by": made_by(),
    }
    text = json.dumps(result, indent=2)
    write_text(out / "run.json", text + "\n")
    write_traces(out / "traces.parquet", played, numbers.data, base.progress_name)
    write_videos(out, played[:videos], world, quiet)
    return json.loads(text)


def described(run: Run) -> dict[str, Any]:
    """What an evaluation says of the run that it evaluates."""
    return {
        "config": run.policy.config.to_dict(),
        "data": run.plan.data,
        "training": asdict(run.plan),
        "computing": {"device": run.computing.device, "precision": run.computing.precision},
    }


def write_videos(out: Path, episodes: Sequence[Rollout], world: Task, quiet: bool) -> None:
    """Write a video of each episode into a folder, as fast as the task was; where it cannot be drawn, say so."""
    if episodes and not can_be_drawn(world):
        return
    for episode in progress("videos", "video", episodes, quiet=quiet or not episodes):
        try:
            write_video(video_path(out, episode.seed), video_frames(episode, world), video_rate(world))
        except CannotRender as error:
            print(f"no videos: {error}", file=sys.stderr)
            return


def task_of_run(run: Run, name: str | None = None) -> Task:
    """The task of this name, else the one that a run was trained on, else the default task."""
    return own_task(run.contract, name or run.plan.task) or get_task(DEFAULT_TASK)


def scene_of(task: Task, run: Run, held: HeldOut | None, goal_pose: str | None) -> Task:
    """A task that starts where held-out episodes start, with its goal where it was asked for, observed by a policy that
    has goals. Raises BadInput where the task cannot."""
    has_goals = run.policy.config.goal_shape is not None
    scene = task.starting_from(held.demos, held.resets) if held else task
    if goal_pose is None and not has_goals:
        return scene
    scene = scene.at_goal(goal_pose)
    return with_shown_goal(scene) if has_goals else scene


def checked_contract(world: Task, run: Run) -> TaskContract:
    """The contract of an evaluation, of what the policy observes. Raises BadInput where a run was trained on another."""
    contract: TaskContract = world.make_env().get_wrapper_attr("contract")
    contract = replace(contract, data=contract.data.observing(run.contract.observation))
    differs = difference_with_remedy(run.contract, contract.data)
    if differs:
        without = "without an environment it can be compared with demonstrations, by --offline SOURCE"
        raise BadInput(f"{run.path}: trained on other data than {world.name} gives; {differs}; {without}")
    return contract


def summary_lines(result: dict[str, Any]) -> list[str]:
    """A run.json in words, line by line."""
    metrics, task = result["metrics"], TaskContract.from_dict(result["contract"])
    spent, back = metrics["latency_ms"], metrics["recovery"]
    lines = [
        metrics_in_words(metrics, progress_name_of(result)),
        f"a decision takes {spent['p50']:.1f} ms (p50), {spent['p95']:.1f} ms (p95); "
        f"{metrics['timing_violations']:.0%} of the steps take longer than {task.timing_budget_ms:g} ms",
    ]
    if metrics.get("action_error") is not None:
        which = "held-out demonstrations" if result["training"]["steps"] else "demonstrations that it may have seen"
        lines.append(f"action error on {which}: {metrics['action_error']:.1f} {short(task.data.action.unit)}")
    if back["shoved"]:
        after = f", half of them within {back['steps_p50']:g} steps" if back["recovered"] else ""
        lines.append(
            f"a shove cost {progress_name_of(result)} in {back['shoved']} episodes: {back['recovered']} recovered it{after}"
        )
    lines += ways_in_words(metrics)
    failures = [e["failure"] for e in result["episodes"] if e["failure"]]
    if failures:
        labels = Counter(failure["person"] or failure["label"] for failure in failures)
        lines.append(f"{len(failures)} failed: {', '.join(f'{label} {n}' for label, n in labels.most_common())}")
    return lines


def written_lines(out: Path, result: dict[str, Any], videos: int) -> list[str]:
    """Where an evaluation's files are: run.json, and the videos of its first episodes where there are any."""
    made = [video_path(out, e["seed"]) for e in result["episodes"][:videos]]
    made = [path for path in made if path.exists()]
    more = f" and {len(made) - 1} more beside it" if len(made) > 1 else ""
    return [f"written: {out / 'run.json'}", *(f"video: {path}{more}" for path in made[:1])]


def video_path(out: Path, seed: int) -> Path:
    """The video of the episode with this environment seed in the folder of an evaluation."""
    return out / f"episode-{seed}.mp4"


def demos_trained_on(run: Run, task: TaskContract) -> Demos | None:
    """The demonstrations that a run was trained on, with the numbers that the environment observes; None where they are
    not on this machine, or lack one."""
    return training_demos(run, [name for name in task.data.observation if name != GOAL])


def visited(run: Run, demos: Demos | None) -> Known | None:
    """What these demonstrations visited; None for none."""
    if demos is None:
        return None
    fits = run.normalizer.bounds.keys() >= {*demos.observation}
    return Known.of(demos, run.normalizer if fits else Normalizer.fit(demos))


def can_be_drawn(task: Task) -> bool:
    """Whether videos of a task can be made; a line says why where it is this machine that cannot."""
    if task.cannot_render():
        print(f"no videos: {task.cannot_render()}", file=sys.stderr)
        return False
    return task.make_env().render_mode == "rgb_array"


def write_traces(path: Path, episodes: Sequence[Rollout], data: Contract, progress: str) -> None:
    """Write all steps of all episodes as one parquet file, atomically: a row for each step. What the numbers of a column
    are, and in which units, is in the file's metadata, as JSON under `units`. `progress`: the task's in a word."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "observation": "observations",
        "truth": "truth",
        "tokens": "tokens",
        "code": "codes",
        "offset": "offsets",
        "action": "actions",
        "decided": "decided",
        "coverage": "coverage",
        "latency_ms": "latency_ms",
        "intervention": "intervention",
        "contact": "contact",
    }
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
    observed = {name: str(values) for name, values in data.observation.items()}
    units = {
        "time": "s",
        "observation": observed,
        "truth": observed,
        "latency_ms": "ms",
        "coverage": f"{progress}, 0..1",
        **dict.fromkeys(("code", "offset", "action"), str(data.action)),
    }
    table = pa.table(rows).replace_schema_metadata({"units": json.dumps(units)})
    write_atomically(path, lambda partial: pq.write_table(table, partial, compression="zstd"))
