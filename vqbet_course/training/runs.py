"""Run directories: the plan of a training, fixed before it starts, and the trained policy with its files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from vqbet_course.core.configuration import VQBeTConfig, typed
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import read_json, write_json
from vqbet_course.core.places import PACKAGE
from vqbet_course.core.specs import Contract
from vqbet_course.datasets.choice import choice_of
from vqbet_course.datasets.readers import with_units
from vqbet_course.datasets.source import Source
from vqbet_course.datasets.splits import Split, same_source
from vqbet_course.datasets.stored_images import ImageCache
from vqbet_course.demos import Normalizer
from vqbet_course.policy import VQBeTPolicy
from vqbet_course.tasks import NO_TASK, get_task, open_source
from vqbet_course.training.checkpoints import load_weights, save_weights
from vqbet_course.training.data import Setup
from vqbet_course.training.devices import CPU, Computing
from vqbet_course.training.factory import build_network
from vqbet_course.training.integrity import (
    NORMALIZER,
    WEIGHTS,
    check_contract,
    check_finite,
    check_normalizer,
    record_checksums,
    verify_checksums,
)

SHIPPED = PACKAGE / "data" / "shipped"
"""The run directory of PushT that comes with the course; that of another task lies beside it, as `shipped-TASK`."""

IMAGES = "images"
"""Where a run directory keeps decoded images until it has trained, unless they have a cache of their own."""


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training, fixed before it starts. The same plan and configuration give the same weights.

    resize: height x width that images get, as on the command line; cache: the folder of decoded images, None: IMAGES;
    drop_episodes: those left out, as on the command line; numbers of episodes are then those of the others; units: those that
    the data do not state, each as NAME=UNIT; start: the run whose weights, tokenizer and normalizer it continues with
    (lesson 15), None: it starts anew."""

    data: str
    steps: int
    vqvae_steps: int
    seed: int
    augment: bool
    threads: int
    goal: str = "none"
    task: str | None = None
    resize: str | None = None
    cache: str | None = None
    device: str = "cpu"
    precision: str = "float32"
    start: str | None = None
    drop_episodes: str | None = None
    units: list[str] = field(default_factory=list)

    def open(self, data: str | None = None) -> Source:
        """A SOURCE, by default the one to train on, as this training sees it."""
        same = data is None or same_source(data, self.data)
        dropped = self.drop_episodes if same else None
        return open_chosen(data or self.data, self.task, self.resize, dropped, self.units)

    def image_cache(self, out: Path, quiet: bool = True) -> ImageCache:
        """Where decoded images lie: in the cache of their own, else in a folder below `out`."""
        return ImageCache(Path(self.cache) if self.cache else out / IMAGES, quiet=quiet)


@dataclass(frozen=True)
class Run:
    """A trained policy with its normalizer, contract and plan, and where and how the policy computes."""

    path: Path
    policy: VQBeTPolicy
    normalizer: Normalizer
    contract: Contract
    plan: TrainingPlan
    computing: Computing = CPU

    @property
    def output(self) -> Path:
        """Where what is made of the run goes: its directory, or one below `_runs` for a run that comes with the course."""
        return Path("_runs") / self.path.name if comes_with_course(self.path) else self.path

    def at_temperature(self, temperature: float) -> "Run":
        """The same run, whose policy draws codes at another temperature. Raises BadInput for an impossible one."""
        acting = replace(self.policy.acting, temperature=temperature)
        return replace(self, policy=VQBeTPolicy(self.policy.network, acting).eval())


def comes_with_course(path: Path) -> bool:
    """Whether a run directory is one that comes with the course."""
    return path.parent == SHIPPED.parent


def directory_of(source: str | Path) -> Path:
    """The run directory that is meant: `shipped` and `shipped-TASK` come with the course, others are paths."""
    shipped = SHIPPED.parent / source
    return shipped if str(source).startswith("shipped") and shipped.is_dir() else Path(source)


def open_chosen(
    data: str, task: str | None, resize: str | None, drop_episodes: str | None, units: Sequence[str] = ()
) -> Source:
    """A SOURCE as its task sees it, without some episodes, with images of this height x width, and with units where it
    states none itself. Raises BadInput for what cannot be read."""
    source = open_source(data, task=task, choice=choice_of(drop_episodes=drop_episodes, resize=resize))
    return with_units(source, units)


def check_start(out: Path, seed: int) -> None:
    """Raise BadInput for a folder that already holds a run, or for a negative seed."""
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed {seed}: give a number from 0 to 2^32 - 1")
    if (out / "train_state.json").exists():
        raise BadInput(f"{out}: already holds a run; continue it with --resume {out}, or choose another folder")


def begin_run(out: Path, plan: TrainingPlan, config: VQBeTConfig, setup: Setup, split: Split) -> None:
    """Write the files that are fixed before a training; the plan comes last, because it makes a folder a run."""
    write_json(out / "config.json", config.to_dict())
    write_json(out / NORMALIZER, setup.normalizer.to_dict())
    write_json(out / "contract.json", setup.contract.to_dict())
    write_json(out / "split.json", split.to_dict())
    record_checksums(out)
    write_json(out / "train_state.json", asdict(plan))


def read_plan(out: Path) -> tuple[TrainingPlan, VQBeTConfig]:
    """The plan and the configuration of a run directory. Raises BadInput for missing or damaged files."""
    plan = read_json(out / "train_state.json", plan_of)
    return plan, read_json(out / "config.json", VQBeTConfig.from_dict)


def plan_of(values: dict[str, Any]) -> TrainingPlan:
    """The plan that a JSON object holds; its task is known from here on. Raises BadInput for one that cannot be found, and for
    threads below 1."""
    plan = typed(TrainingPlan, values)
    if plan.threads < 1:
        raise BadInput(f"threads {plan.threads}: a plan needs at least 1; write 1 there")
    if plan.task not in (None, NO_TASK):
        get_task(plan.task)
    return plan


def finish_run(out: Path, network: nn.Module) -> None:
    """Write the weights that act, and their checksum. Raises BadInput for weights that are not finite."""
    check_finite(dict(network.state_dict()), out / WEIGHTS)
    save_weights(network, out / WEIGHTS)
    record_checksums(out)


def load_run(source: str | Path, computing: Computing = CPU) -> Run:
    """A run directory, or `shipped` or `shipped-TASK`, which come with the course, with a policy that computes so. Raises
    BadInput for anything else."""
    path = directory_of(source)
    if not path.is_dir():
        raise BadInput(f"{path}: no such run directory; train one with: vqbet-course train --minutes 15 --out {path}")
    plan, config = read_plan(path)
    weights = path / WEIGHTS
    if not weights.exists():
        raise BadInput(f"{weights}: missing; finish the training with: vqbet-course train --resume {path}")
    network = build_network(config, str(path / "config.json"))
    load_weights(network, weights)
    normalizer = read_json(path / NORMALIZER, Normalizer.from_dict)
    check_normalizer(normalizer, config, path / NORMALIZER)
    contract = read_json(path / "contract.json", Contract.from_dict)
    check_contract(contract, config, path / "contract.json")
    verify_checksums(path)
    return Run(path, VQBeTPolicy(computing.place(network).eval()), normalizer, contract, plan, computing)
