"""The panel: several policies are trained on the same demonstrations, in the same time, and evaluated in the same way.

A job is one policy with one training seed. It carries its data, and so runs anywhere: in a process of this machine or
on a worker of a Dask cluster. Only the coordinator writes: a file per finished job, so that a panel that was killed
continues with the jobs that are missing.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from vqbet_course.baselines import BC, BeT, FlowMatching, chunk_stage
from vqbet_course.core.budget import Budget, Clock
from vqbet_course.core.chunk_policy import ChunkPolicy
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.executor import Workers, completed, executor
from vqbet_course.core.hooks import Hook
from vqbet_course.core.io import drop_partials, in_plain_words, read_json, write_atomically, write_json, write_text
from vqbet_course.core.progress import progress
from vqbet_course.core.records import check_made_with, made_by
from vqbet_course.core.specs import TaskContract
from vqbet_course.demos import Demos, Normalizer, load_demos
from vqbet_course.evaluation.behaviour import ways_of_solving, ways_round
from vqbet_course.evaluation.evaluate import assess, can_be_drawn
from vqbet_course.evaluation.failures import Known, failures_of, keep_persons_word
from vqbet_course.evaluation.videos import video_frames, video_rate, write_video
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.rollout import Policy, rollouts
from vqbet_course.tasks import DEFAULT_TASK, get_task, open_source
from vqbet_course.train import policy_stage, run_randomness, run_stage, split_steps, vqvae_stage
from vqbet_course.training.announce import announce, relative_note
from vqbet_course.training.data import Setup, laptop_changes, prepare, too_short
from vqbet_course.training.devices import CPU, Computing
from vqbet_course.training.factory import build_frame, build_network
from vqbet_course.training.hooks import Deadline, Measurement

SCHEMA = "vqbet_course/panel/2"

POLICIES = ("bc", "bet", "act", "diffusion", "flow", "vqbet")

LEROBOTS = ("act", "diffusion")
"""Those of them that are LeRobot's."""

HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "bc": {"n_obs_steps": 2, "action_chunk_size": 8, "n_action_steps": 4},
    "bet": {"n_obs_steps": 5, "action_chunk_size": 1, "n_action_steps": 1},
    "act": {"n_obs_steps": 1, "action_chunk_size": 16, "n_action_steps": 8, "batch_size": 64, "optimizer_lr": 5e-4},
    "diffusion": {"n_obs_steps": 2, "action_chunk_size": 16, "n_action_steps": 8, "batch_size": 64},
    "flow": {"n_obs_steps": 2, "action_chunk_size": 16, "n_action_steps": 8},
}
"""What each policy changes in VQ-BeT's laptop configuration: steps observed, predicted, executed; the optimizer."""

BASELINE = {"average_chunks": False, "optimizer_weight_decay": 0.01}
"""What all of them change in it, besides."""

SINGLE_ACTIONS = ("action_chunk_size", "n_action_steps")
"""What no task changes for BeT, whose bins are of single actions."""

SAMPLERS = {"diffusion-ddpm100": ("DDPM", 100), "diffusion-ddim10": ("DDIM", 10)}
"""The ways in which one trained Diffusion Policy acts."""

CURVE_POINTS = 8
"""How many times a training measures the error on held-out demonstrations."""

ROUTES_SHARE, ROUTES_MINUTES = 0.25, 1 / 3
"""The training budget on navigation, which has two routes: this share of a policy's, and at most so many minutes."""

ROUTES_DEMOS = 100
"""Demonstrations of navigation that each policy learns the two routes from."""


@dataclass(frozen=True)
class Settings:
    """The settings of all jobs of a panel: a SOURCE, how many of its demonstrations to train on, how many episodes to
    evaluate and how many of them to record as videos, the training budget, the first environment seed, the task, and on
    which device and in which precision the policies compute."""

    data: str
    demos: int
    episodes: int
    budget: Budget
    videos: int = 1
    first_seed: int = 100_000
    task: str = DEFAULT_TASK
    device: str = "cpu"
    precision: str = "float32"

    @property
    def computing(self) -> Computing:
        """Where and how the policies compute."""
        return Computing(self.device, self.precision)

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """One policy, one training seed, and all that it needs: demonstrations to train on, and some held out."""

    policy: str
    seed: int
    demos: Demos
    held_out: Demos | None
    settings: Settings

    @property
    def name(self) -> str:
        """The name of its result file."""
        return f"{self.policy}-seed{self.seed}"

    @property
    def config(self) -> VQBeTConfig:
        """The configuration that it trains with."""
        return config_for(self.policy, self.demos, **changes_for(self.policy, self.demos))


# --- training -----------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A trained policy: its module and normalizer, the curve of its error, the steps and seconds that it took."""

    module: nn.Module
    normalizer: Normalizer
    curve: list[dict[str, float]]
    steps: int
    seconds: float

    @property
    def policy(self) -> Policy:
        """The policy that acts with it, as its configuration says."""
        return as_policy(self.module)


def config_for(policy: str, demos: Demos, **changes: Any) -> VQBeTConfig:
    """The configuration of a policy on these demonstrations; a baseline takes its sizes and its optimizer from it."""
    sizes = {name: values.shape[1] for name, values in demos.observation.items()}
    own = BASELINE | HYPERPARAMETERS[policy] if policy in HYPERPARAMETERS else {}
    return VQBeTConfig.laptop(observation_sizes=sizes, action_dim=demos.action.shape[1], **(own | changes))


def changes_for(policy: str, demos: Demos) -> dict[str, Any]:
    """What these demonstrations change in the configuration of a policy: for a baseline, all but what makes it one."""
    changes = laptop_changes(demos)
    if policy in HYPERPARAMETERS:
        pinned = {*BASELINE, *(SINGLE_ACTIONS if policy == "bet" else ())}
        changes = {name: value for name, value in changes.items() if name not in pinned}
    if policy == "diffusion" and "action_chunk_size" in changes:
        from vqbet_course.experiments.lerobot_baselines import horizon_of

        changes["action_chunk_size"] = horizon_of(changes["action_chunk_size"])
    return changes


def build(policy: str, config: VQBeTConfig, **shape: Any) -> nn.Module:
    """The untrained module of a policy of the panel: a VQBeT, or a ChunkPolicy. `shape`: arguments of its class, like
    `width`; a VQ-BeT has its shape in the configuration."""
    from vqbet_course.experiments import lerobot_baselines

    if policy == "vqbet":
        return build_network(config)
    kinds: dict[str, type[ChunkPolicy]] = {
        "bc": BC,
        "bet": BeT,
        "act": lerobot_baselines.ACT,
        "diffusion": lerobot_baselines.Diffusion,
        "flow": FlowMatching,
    }
    return kinds[policy](config, build_frame(config), **shape)


def as_policy(module: nn.Module) -> Policy:
    """The policy that acts with a module of `build`: a VQBeTPolicy around a VQBeT, a ChunkPolicy unchanged."""
    return VQBeTPolicy(module) if isinstance(module, VQBeT) else cast(Policy, module)


def learn(
    policy: str,
    setup: Setup,
    config: VQBeTConfig,
    budget: Budget,
    seed: int,
    measure: Callable[[nn.Module], float] | None = None,
) -> Trained:
    """Train a policy from scratch within the budget. VQ-BeT spends at most a third of it on its tokenizer."""
    with run_randomness(seed):
        return learn_module(build(policy, config), setup, budget, seed, measure)


def learn_module(
    module: nn.Module,
    setup: Setup,
    budget: Budget,
    seed: int,
    measure: Callable[[nn.Module], float] | None = None,
    now: Callable[[], float] = time.perf_counter,
    hooks: Sequence[Hook] = (),
) -> Trained:
    """Train a module of `build` within the budget, inside `run_randomness`. `now`: the clock of a budget in minutes,
    in seconds; `time.process_time` does not count what other processes take; `hooks`: called in its last stage."""
    first, most = 0, budget.steps or 10**9
    setup.computing.place(module)
    if isinstance(module, VQBeT):
        tokenizer = vqvae_stage(module, setup.windows, split_steps(most, module.config))
        clock = Clock(now)
        first = run_stage(tokenizer, seed, hooks=deadline(clock, budget, share=1 / 3))
        stage = policy_stage(module, setup.windows, most - first)
    else:
        stage = chunk_stage(cast(ChunkPolicy, module), setup.windows, most)
        clock = Clock(now)
    ends = deadline(clock, budget)
    measured = [Measurement(clock, measure, CURVE_POINTS, *ends)] if measure else []
    steps = run_stage(stage, seed, hooks=[*ends, *measured, *hooks])
    curve = measured[0].curve if measured else []
    return Trained(stage.acting().eval(), setup.normalizer, curve, first + steps, clock.seconds())


def deadline(clock: Clock, budget: Budget, share: float = 1.0) -> list[Deadline]:
    """The hook that ends a stage when a share of the budget's seconds is over; none for a budget in steps."""
    return [] if budget.seconds is None else [Deadline(clock, share * budget.seconds)]


def first_action_error(module: nn.Module, held_out: Demos, normalizer: Normalizer, n: int = 128) -> float:
    """The distance between the first action of an episode that begins in a demonstration and the demonstrated action, a
    mean over n frames of held-out demonstrations; in the action's unit."""
    rows = np.linspace(0, len(held_out.action) - 1, n).astype(int)
    acting, modes = as_policy(module), [(part, part.training) for part in module.modules()]
    acting.eval()
    acting.reset([torch.Generator().manual_seed(int(row)) for row in rows])
    decided = acting.select_action(
        {
            name: normalizer.normalize(name, torch.from_numpy(values[rows]))
            for name, values in held_out.observation.items()
        }
    )
    for part, training in modes:  # the tokenizer of a network that learns does not
        part.training = training
    error = normalizer.unnormalize("action", decided) - torch.from_numpy(held_out.action[rows])
    return error.norm(dim=1).mean().item()


# --- a job --------------------------------------------------------------------------------------------------------


def run_job(job: Job) -> list[dict[str, Any]]:
    """Train one policy and evaluate it in each way in which it acts. Returns videos as bytes: it writes nothing."""
    torch.set_num_threads(1)
    s, task = job.settings, get_task(job.settings.task)
    config = job.config
    setup = prepare(job.demos, config, augment=task.augmentable(job.demos.contract)).on(s.computing)
    measure = partial(first_action_error, held_out=job.held_out, normalizer=setup.normalizer) if job.held_out else None
    learned = learn(job.policy, setup, config, s.budget, job.seed, measure)
    routes = two_routes(job.policy, job.seed, s.budget, s.computing) if task.measures_routes else None
    known = Known.of(job.demos, setup.normalizer)
    videos = s.videos if can_be_drawn(task) else 0
    results = []
    for name, choose in ways(learned.module, job.policy).items():
        choose()
        episodes, metrics = assess(
            learned.policy, learned.normalizer, task, range(s.first_seed, s.first_seed + s.episodes)
        )
        metrics |= ways_of_solving(episodes, task, job.demos)
        failures = failures_of(episodes, task.contract, known, task.failure_rules)
        ways_taken = ways_round(learned.policy, learned.normalizer, task)
        results.append(
            {
                "schema": SCHEMA,
                "policy": name,
                "seed": job.seed,
                "job": job.name,
                "settings": s.to_dict(),
                "contract": task.contract.to_dict(),
                "success_progress": task.success_progress,
                "progress_name": task.progress_name,
                "parameters": sum(p.numel() for p in learned.module.parameters()),
                "config": config.to_dict(),
                "chunk": {k: getattr(config, k) for k in ("n_obs_steps", "action_chunk_size", "n_action_steps")},
                "training": {"steps": learned.steps, "seconds": learned.seconds, "curve": learned.curve},
                "metrics": metrics,
                "two_routes": routes,
                "ways_round": ways_taken,
                "made_by": made_by(),
                "episodes": [e.summary() | {"failure": failures.get(str(e.seed))} for e in episodes],
                "videos": {
                    f"{name}-seed{job.seed}-{e.seed}.mp4": video_bytes(video_frames(e, task), video_rate(task))
                    for e in episodes[:videos]
                },
            }
        )
    return results


def ways(module: nn.Module, policy: str) -> dict[str, Callable[[], None]]:
    """{name under which a trained policy is evaluated: function that makes it act in that way}."""
    if policy != "diffusion":
        return {policy: lambda: None}
    sample_with = cast(Any, module).sample_with
    return {name: partial(sample_with, *how) for name, how in SAMPLERS.items()}


def video_bytes(frames: Iterable[np.ndarray], fps: float) -> bytes:
    """The bytes of an H.264 video of some frames (H, W, 3), `fps` a second."""
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "video.mp4", frames, fps)
        return (Path(folder) / "video.mp4").read_bytes()


def two_routes(policy: str, seed: int, budget: Budget, computing: Computing = CPU, n: int = 40) -> dict[str, float]:
    """A policy on navigation, from the one start from which demonstrations go both ways: the shares (0..1) of its n
    rollouts that arrive on the left and on the right of the disc, and that do not arrive."""
    task = get_task("navigation")
    demos = load_demos(task.demonstrations(ROUTES_DEMOS, seed, walk_on=True))
    small = {"scheduler_warmup_steps": 20, "batch_size": 64, "vqvae_batch_size": 256}  # many steps in little time
    config = config_for(policy, demos, **small | changes_for(policy, demos))
    setup = prepare(demos, config, augment=False)
    if budget.minutes is not None:
        budget = Budget(minutes=min(ROUTES_MINUTES, ROUTES_SHARE * budget.minutes))
    else:
        budget = Budget(steps=max(3, int(ROUTES_SHARE * cast(int, budget.steps))))
    learned = learn(policy, setup.on(computing), config, budget, seed)
    episodes = rollouts(learned.policy, learned.normalizer, range(n), task)
    taken = [task.behaviour_of(np.array(e.truth), e.contact) if e.success else None for e in episodes]
    shares = {way: taken.count(way) / n for way in task.behaviours}
    return shares | {"crashed": float(np.mean([not e.success for e in episodes]))}


# --- the panel ----------------------------------------------------------------------------------------------------


def run_panel(
    policies: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    out: Path,
    workers: Workers = Workers(),
    quiet: bool = False,
) -> dict[str, Any]:
    """Run what is missing of a panel, then write panel.json and report.html into `out`. Returns what panel.json holds.

    Raises BadInput for unknown policies, too few demonstrations, or an `out` that holds a panel of other settings;
    what is finished stays.
    """
    check_panel(policies, seeds, settings, workers.jobs)
    demos, out = load_demos(open_source(settings.data, task=settings.task)), Path(out)
    differs = demos.contract.difference(get_task(settings.task).contract.data)
    if differs:
        raise BadInput(f"{settings.data}: not the demonstrations of the panel's task; {differs}")
    if len(demos) < settings.demos:
        raise BadInput(f"{settings.data}: holds {len(demos)} demonstrations, --demos asks for {settings.demos}")
    check_observations(policies, settings.data, demos)
    check_lengths(policies, settings.data, demos)
    note = relative_note(demos, "`use_relative_actions` in the `laptop` of its task says it otherwise")
    announce(f"note: {note}", quiet or note is None)
    done = {result["job"]: result for result in results_of(out, settings)}
    jobs = jobs_of(policies, seeds, demos, settings)
    for job in jobs:  # results from before configurations were kept have none
        if "config" in (made := done.get(job.name, {})):
            check_made_with(out / "jobs" / f"{job.name}.json", made["config"], job.config.to_dict())
    missing = [job for job in jobs if job.name not in done]
    if missing:
        run_missing(missing, out, workers, quiet)
    return write_panel(out, results_of(out, settings), settings)


def check_panel(policies: Sequence[str], seeds: Sequence[int], settings: Settings, jobs: int) -> None:
    """Raise BadInput for unknown or repeated policies, repeated seeds and numbers that are too small."""
    for name in policies:
        if name not in POLICIES:
            raise BadInput(f"unknown policy {name!r}; choose from {', '.join(POLICIES)}")
    if not policies or not seeds or len({*policies}) < len(policies) or len({*seeds}) < len(seeds):
        raise BadInput("give each policy and each seed once, and at least one of both")
    if min(seeds) < 0:
        raise BadInput("seeds must be at least 0")
    if min(settings.demos, settings.episodes, jobs) < 1 or settings.videos < 0:
        raise BadInput("demos, episodes and jobs must be at least 1, videos at least 0")


def check_observations(policies: Sequence[str], data: str, demos: Demos) -> None:
    """Raise BadInput for a policy that cannot observe what the demonstrations hold."""
    from vqbet_course.experiments.lerobot_baselines import check_observed

    asked = [name for name in policies if name in LEROBOTS]
    if asked:
        try:
            check_observed(demos.observation)
        except BadInput as error:
            raise BadInput(f"{data}: {error}; leave {', '.join(asked)} out of --policies") from None


def check_lengths(policies: Sequence[str], data: str, demos: Demos) -> None:
    """Raise BadInput for demonstrations that are too short for a training window of one of the policies."""
    found = {n for name in policies for n in too_short(demos, config_for(name, demos, **changes_for(name, demos)))}
    if found:
        listed = ",".join(map(str, sorted(found)))
        raise BadInput(
            f"{data}: too short for a training window: episodes {listed}; leave them out with: "
            f"vqbet-course demos convert {data} --drop-episodes {listed} --out DIR"
        )


def jobs_of(policies: Sequence[str], seeds: Sequence[int], demos: Demos, settings: Settings) -> list[Job]:
    """All jobs of a panel. A seed chooses the demonstrations, the same for every policy; ten others are held out."""
    jobs = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(demos))
        chosen, rest = np.sort(order[: settings.demos]), order[settings.demos : settings.demos + 10]
        held_out = demos.select(rest) if len(rest) else None
        jobs += [Job(policy, seed, demos.select(chosen), held_out, settings) for policy in policies]
    return jobs


def run_missing(missing: Sequence[Job], out: Path, workers: Workers, quiet: bool) -> None:
    """Run jobs in parallel and write each as it finishes. A job that fails does not stop the others."""
    failed = None
    with executor(workers) as pool:
        with in_plain_words(out):  # before hours are spent on what cannot be kept
            (out / "jobs").mkdir(parents=True, exist_ok=True)
        ended = completed(pool, run_job, ((job, (job,)) for job in missing))
        for job, future in progress("jobs", "job", ended, total=len(missing), quiet=quiet):
            try:
                keep_job(out, job.name, future.result())
            except Exception as error:
                failed = failed or error
        if failed:
            raise failed


def keep_job(out: Path, name: str, results: list[dict[str, Any]]) -> None:
    """Write a finished job: its videos, then its results as one file, which says that it is finished."""
    for result in results:
        videos = result["videos"]
        for path, content in videos.items():
            write_atomically(out / "videos" / path, partial(Path.write_bytes, data=content))
        result["videos"] = [f"videos/{path}" for path in videos]
    write_json(out / "jobs" / f"{name}.json", {"schema": SCHEMA, "results": results})


def results_of(out: Path, settings: Settings) -> list[dict[str, Any]]:
    """All results in a panel's folder, a row a policy and seed. Raises BadInput, naming the file and the field, for
    one of another schema, of another task contract or of other settings: they are never put in one table."""
    found = []
    for path in sorted((out / "jobs").glob("*.json")):
        results = read_json(path, parse_job)
        for result in results:
            differs = TaskContract.from_dict(result["contract"]).difference(get_task(settings.task).contract)
            if differs:
                raise BadInput(f"{path}: the result of another task; {differs}; choose another --out")
            mine, theirs = settings.to_dict(), {"task": DEFAULT_TASK} | asdict(CPU) | result["settings"]
            other = [name for name in mine if mine[name] != theirs.get(name)]
            if other:
                raise BadInput(
                    f"{path}: made with {other[0]} {theirs.get(other[0])}, not {mine[other[0]]}; choose another --out"
                )
        found += results
    order = [way for policy in POLICIES for way in (SAMPLERS if policy == "diffusion" else [policy])]
    return sorted(found, key=lambda r: (order.index(r["policy"]), r["seed"]))


def parse_job(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The results in a job's file. Raises BadInput for another schema."""
    if values["schema"] != SCHEMA:
        raise BadInput(f"schema {values['schema']}, this version reads {SCHEMA}; choose another --out")
    return values["results"]


def write_panel(out: Path, results: list[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Write panel.json, the failure labels (a person may overrule them) and report.html; returns the panel."""
    from vqbet_course.experiments.report import report
    from vqbet_course.experiments.verdicts import claims, paired_tests

    for result in results:
        labels = {str(e["seed"]): e["failure"] for e in result["episodes"] if e["failure"]}
        kept = keep_persons_word(
            out / "failures" / f"{result['policy']}-seed{result['seed']}.json",
            labels,
            get_task(settings.task).failure_rules,
        )
        for episode in result["episodes"]:
            episode["failure"] = kept.get(str(episode["seed"]))
    panel = {
        "schema": SCHEMA,
        "settings": settings.to_dict(),
        "results": results,
        "contract": get_task(settings.task).contract.to_dict(),
        "tests": paired_tests(results),
        "claims": claims(results),
    }
    write_json(out / "panel.json", panel)
    write_text(out / "report.html", report(panel, out))
    drop_partials(out)
    return panel
