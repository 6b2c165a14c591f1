"""A training from a SOURCE to a run directory: `train` starts one, `resume` continues it (lesson 08)."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.hooks import Hook
from vqbet_course.core.io import drop_partials, read_json
from vqbet_course.core.units import short
from vqbet_course.datasets.choice import episodes_in, tasks_beside
from vqbet_course.datasets.splits import Split, read_split
from vqbet_course.datasets.stored_images import ImageCache
from vqbet_course.demos import Demos, Normalizer, load_demos
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.tasks import task_of
from vqbet_course.train import policy_stage, run_randomness, run_stage, split_steps, vqvae_stage
from vqbet_course.training.announce import announce, data_line, relative_note, several_tasks_note, steps_line
from vqbet_course.training.calibration import seconds_per_step, steps_within, using_threads
from vqbet_course.training.checkpoints import SaveCheckpoints, load_tensors, load_weights, read_checkpoint
from vqbet_course.training.data import RELATIVE, Fitted, Setup, prepare, too_short, with_goal
from vqbet_course.training.devices import CPU, Computing
from vqbet_course.training.factory import build_network, start_network
from vqbet_course.training.integrity import NORMALIZER, WEIGHTS, locked, verify_checksums
from vqbet_course.training.log import TrainingLog
from vqbet_course.training.quick import set_precision
from vqbet_course.training.runs import (
    IMAGES,
    Run,
    TrainingPlan,
    begin_run,
    check_start,
    finish_run,
    open_chosen,
    read_plan,
)


def calibrated_threads(config: VQBeTConfig, setup: Setup, seed: int) -> int:
    """One thread, or as many as PyTorch may use, where a trial shows that these train a quarter faster.

    More threads than idle cores make training many times slower: they wait for each other."""
    most = torch.get_num_threads()
    if most == 1:
        return 1
    with run_randomness(seed):
        stage = policy_stage(setup.computing.place(build_network(config)), setup.windows, 100)
        seconds = []
        for threads in (1, most):
            with using_threads(threads):
                seconds.append(seconds_per_step(stage, seed, steps=5))
    return most if seconds[0] > 1.25 * seconds[1] else 1


def calibrated_steps(budget: Budget, config: VQBeTConfig, setup: Setup, seed: int) -> int:
    """The steps of a budget; for one in minutes, as many as they take on this machine, timed on a scratch network."""
    if budget.seconds is None:
        return int(budget.steps or 0)
    with run_randomness(seed):
        network = setup.computing.place(build_network(config))
        first, second = (
            seconds_per_step(make(network, setup.windows, 100), seed) for make in (vqvae_stage, policy_stage)
        )
    return steps_within(budget.seconds, first, second, most=config.n_vqvae_training_steps)


def run_plan(
    plan: TrainingPlan, config: VQBeTConfig, setup: Setup, out: Path, quiet: bool, hooks: Sequence[Hook] = ()
) -> VQBeTPolicy:
    """Both stages, from wherever the run directory stands; then the weights that act go to model.safetensors."""
    saved = read_checkpoint(out)
    with run_randomness(plan.seed):
        network = build_network(config) if saved or plan.start else start_network(config)
        if saved:
            load_tensors(network, saved.part("policy"), saved.path)
        elif plan.start:
            load_weights(network, Path(plan.start) / WEIGHTS)
        setup.computing.place(network)
        steps = (plan.vqvae_steps, plan.steps - plan.vqvae_steps)
        for number in range(saved.stage if saved else int(plan.start is not None), 2):
            stage = (vqvae_stage, policy_stage)[number](network, setup.windows, steps[number])
            start = saved.restore(stage) if saved and number == saved.stage else 0
            log = TrainingLog(out, setup.action_unit, short(setup.contract.action.unit), quiet)
            run_stage(stage, plan.seed, start, [log, SaveCheckpoints(out, network, number), *hooks])
    acting = stage.acting()
    assert isinstance(acting, VQBeT)
    set_precision(acting, "float32")
    finish_run(out, acting)
    shutil.rmtree(out / IMAGES, ignore_errors=True)  # a cache of one's own stays
    return VQBeTPolicy(acting.eval())


def augmentable(demos: Demos) -> bool:
    """Whether the task of these demonstrations can make more of them."""
    task = task_of(demos.contract)
    return task is not None and task.augmentable(demos.contract)


def prepare_in(out: Path, demos: Demos, config: VQBeTConfig, augment: bool, goal: str) -> Setup:
    """What `prepare` makes for a new run directory, which does not stay behind, empty, where that is not possible."""
    try:
        return prepare(demos, config, augment, goal)
    except BadInput:
        with suppress(OSError):
            out.rmdir()
        raise


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What of a SOURCE is trained on, and as what it is read.

    data: the SOURCE; task: whose demonstrations they are (`tasks.open_source`); only_task: which of the tasks of its
    episodes; split: the file that says on which episodes to train; observe: the names that the policy sees, None: all
    numbers; goal: how goals are drawn (lesson 11); augment: add what the task makes of its demonstrations, None: where it
    can; resize: height x width that images get; cache: the folder of decoded images, None: one in the run directory that
    is removed at the end; drop_episodes: those to leave out, as on the command line; units: those that the SOURCE does
    not state, each as NAME=UNIT."""

    data: str
    task: str | None = None
    only_task: str | None = None
    split: Path | None = None
    observe: Sequence[str] | None = None
    goal: str = "none"
    augment: bool | None = None
    resize: str | None = None
    cache: Path | None = None
    drop_episodes: str | None = None
    units: Sequence[str] = ()

    @property
    def cache_folder(self) -> str | None:
        """The cache, wherever the working directory will be."""
        return str(self.cache.absolute()) if self.cache else None

    def load(self, out: Path, quiet: bool) -> tuple[Demos, Split]:
        """The demonstrations to train on in the run directory `out`, and the split that they belong to."""
        if self.split and self.drop_episodes:
            raise BadInput(f"{self.split}: a split names the episodes to train on; leave --drop-episodes out")
        source = open_chosen(self.data, self.task, self.resize, self.drop_episodes, self.units)
        images = ImageCache(Path(self.cache_folder or out / IMAGES), quiet=quiet)
        demos = load_demos(source, self.observe, images)
        parts = read_split(self.split) if self.split else Split(self.data, len(demos), list(range(len(demos))))
        if self.only_task is not None:
            parts = parts.keeping(list(tasks_beside(source, self.only_task)))
        elif len(source.all_tasks) > 1:
            announce(f"note: {several_tasks_note(source)}", quiet)
        return parts.training(demos), parts

    def check_lengths(self, demos: Demos, parts: Split, config: VQBeTConfig) -> None:
        """Raise BadInput, naming a way on, for demonstrations that are too short for a training window."""
        found = too_short(demos, config)
        if not found:
            return
        dropped = episodes_in(self.drop_episodes)
        stored = [number for number in range(parts.n_episodes + len(dropped)) if number not in dropped]
        numbers = [stored[parts.train[index]] for index in found]
        listed = ",".join(map(str, sorted(numbers)))
        without = (
            f"take them out of {self.split}"
            if self.split
            else (f"leave them out with --drop-episodes {','.join(map(str, sorted(dropped | {*numbers})))}")
        )
        shorter = f"shorter chunks with --set action_chunk_size=N, N below {config.action_chunk_size}"
        raise BadInput(
            f"{demos.source}: too short for a training window: episodes {listed}; "
            + (f"choose {shorter}" if len(found) == len(demos) else f"{without}, or choose {shorter}")
        )


def train(
    data: str | Selection,
    out: Path,
    budget: Budget,
    config: VQBeTConfig | Fitted = Fitted(),
    *,
    seed: int = 0,
    computing: Computing = CPU,
    hooks: Sequence[Hook] = (),
    quiet: bool = False,
) -> VQBeTPolicy:
    """Train both stages on a SOURCE, or a selection of one, into a run directory; returns the policy that acts.

    Args: config, by default one that fits the data; computing, the device, the precision and the threads, by default
    `calibrated_threads` for minutes, and 1 for steps, which then give the same weights again; hooks, called in both
    stages. Raises BadInput for unusable data or an `out` that already holds a run.
    """
    out, selection = Path(out), data if isinstance(data, Selection) else Selection(data=data)
    check_start(out, seed)
    announce(f"training on {selection.data} into {out}: {budget}", quiet)
    demos, parts = selection.load(out, quiet)
    by_hand = isinstance(config, VQBeTConfig) or RELATIVE in config.changes
    config = with_goal(config.of(demos) if isinstance(config, Fitted) else config, selection.goal)
    selection.check_lengths(demos, parts, config)
    with run_randomness(seed):
        start_network(config)  # weights that are not to be had are found out before anything is written
    announce(data_line(demos, config), quiet)
    note = None if by_hand else relative_note(demos, f"--set {RELATIVE}=true or =false says it otherwise")
    announce(f"note: {note}", quiet or note is None)
    augment = augmentable(demos) if selection.augment is None else selection.augment
    setup = prepare_in(out, demos, config, augment, selection.goal).on(computing)
    threads = computing.threads or (1 if budget.minutes is None else calibrated_threads(config, setup, seed))
    with using_threads(threads):
        steps = calibrated_steps(budget, config, setup, seed)
    tokenizer_steps = split_steps(steps, config)
    announce(steps_line(steps, tokenizer_steps, budget), quiet)
    plan = TrainingPlan(
        selection.data,
        steps,
        tokenizer_steps,
        seed,
        augment,
        threads,
        selection.goal,
        selection.task,
        selection.resize,
        selection.cache_folder,
        computing.device,
        computing.precision,
        drop_episodes=selection.drop_episodes,
        units=list(selection.units),
    )
    with using_threads(threads), locked(out):
        check_start(out, seed)  # another training may have begun in the meantime
        begin_run(out, plan, config, setup, parts)
        return run_plan(plan, config, setup, out, quiet, hooks)


def train_further(run: Run, data: str, out: Path, steps: int, seed: int = 0, quiet: bool = False) -> VQBeTPolicy:
    """Train the policy of a finished run further, on a SOURCE, into a run directory of its own (lesson 15).

    It starts from the run's weights, with a warm-up of the learning rate; tokenizer and normalizer stay, so that codes
    and numbers keep their meaning. Configuration, augmentation and goals are those of the run. Raises BadInput as
    `train` does."""
    check_start(out, seed)
    config, was = run.policy.network.config, run.plan
    demos = load_demos(was.open(data), [*config.image_shapes, *config.observation_sizes], was.image_cache(out, quiet))
    setup = prepare(demos, config, was.augment, was.goal, run.normalizer).on(Computing.asked(was.device, was.precision))
    of_its_own: dict[str, Any] = {"drop_episodes": None, "units": []}  # of the data that the run was trained on
    plan = replace(was, **of_its_own, data=data, steps=steps, vqvae_steps=0, seed=seed, threads=1, start=str(run.path))
    with using_threads(1), locked(out):
        check_start(out, seed)
        begin_run(out, plan, config, setup, Split(data, len(demos), list(range(len(demos)))))
        return run_plan(plan, config, setup, out, quiet)


def resume(
    out: Path,
    quiet: bool = False,
    hooks: Sequence[Hook] = (),
    device: str | None = None,
    precision: str | None = None,
) -> VQBeTPolicy:
    """Continue a run that was interrupted; it ends with the weights of one that was not, where device and precision are
    those of its plan, as they are unless given."""
    out = Path(out)
    plan, config = read_plan(out)
    observe = [*config.image_shapes, *config.observation_sizes]
    demos = load_demos(plan.open(), observe, plan.image_cache(out, quiet))
    computing = Computing.asked(device or plan.device, precision or plan.precision)
    demos = read_split(out / "split.json").training(demos)
    normalizer = read_json(out / NORMALIZER, Normalizer.from_dict) if plan.start else None
    setup = prepare(demos, config, plan.augment, plan.goal, normalizer).on(computing)
    with using_threads(plan.threads), locked(out):
        verify_checksums(out)
        drop_partials(out)
        return run_plan(plan, config, setup, out, quiet, hooks)
