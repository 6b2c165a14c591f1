import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from vqbet_course.build import build_policy
from vqbet_course.contract import PUSHT, BadInput, Contract
from vqbet_course.demos import Demos, Normalizer, Windows, load_demos, make_windows, mirror_pusht
from vqbet_course.files import write_atomically, write_text
from vqbet_course.policy import VQBeTConfig, VQBeTPolicy
from vqbet_course.vqvae import vqvae_loss

Metrics = dict[str, Tensor]
SHIPPED = Path(__file__).parent / "data" / "shipped"


@functools.lru_cache(maxsize=2)
def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The order (n,) in which an epoch goes through n rows: a function of seed and epoch alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def batch_rows(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The rows (B,) of batch number `step`, found without any state: what makes resuming exact."""
    epoch, within = divmod(step, max(1, n // batch_size))
    return epoch_order(n, seed, epoch)[within * batch_size:(within + 1) * batch_size]


@dataclass
class Stage:
    """One stage of training: a module that learns from `loss(rows) -> (loss, metrics)`, and how."""

    name: str
    module: nn.Module
    loss: Callable[[Tensor], tuple[Tensor, Metrics]]
    n_rows: int
    steps: int
    batch_size: int
    lr: float
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup: int = 0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, self.n_rows)
        self.learning = [p for p in self.module.parameters() if p.requires_grad]
        groups = [{"params": [p for p in self.learning if p.ndim >= 2], "weight_decay": self.weight_decay},
                  {"params": [p for p in self.learning if p.ndim < 2], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)
        self.average = None
        if self.ema_decay:
            self.average = AveragedModel(self.module, multi_avg_fn=get_ema_multi_avg_fn(self.ema_decay))

    def step(self, step: int, seed: int) -> Metrics:
        """Take step number `step`. Everything random in it follows from seed and step."""
        torch.manual_seed(seed * 1_000_003 + step)
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        loss, metrics = self.loss(batch_rows(self.n_rows, self.batch_size, seed, step))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.learning, 1.0)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.module)
        return metrics | {"loss": loss.detach()}

    def acting(self) -> nn.Module:
        """The module as it acts: its moving average where there is one."""
        return self.module if self.average is None else self.average.module


def vqvae_stage(policy: VQBeTPolicy, windows: Windows, steps: int) -> Stage:
    """Stage 1: the chunk VQ-VAE learns to put chunks into codes and back (VQ-BeT paper, section 3.2)."""
    c, vqvae = policy.config, policy.vqvae.train()

    def loss(rows: Tensor) -> tuple[Tensor, Metrics]:
        out = vqvae(windows.chunks[rows])
        used = torch.unique(out.codes, dim=0).shape[0]
        return vqvae_loss(out), {"reconstruction": out.recon_loss.detach(), "code_pairs": torch.tensor(float(used))}

    return Stage("tokenizer", vqvae, loss, len(windows.chunks), steps, c.vqvae_batch_size, c.optimizer_vqvae_lr,
                 c.optimizer_vqvae_weight_decay)


def policy_stage(policy: VQBeTPolicy, windows: Windows, steps: int) -> Stage:
    """Stage 2: with the codes frozen, the GPT and the heads learn to choose and correct them (section 3.3)."""
    c = policy.config
    policy.train()
    policy.vqvae.eval().requires_grad_(False)
    codes = label_codes(policy, windows)

    def loss(rows: Tensor) -> tuple[Tensor, Metrics]:
        seen, asked = windows.observation_index[rows], windows.chunk_index[rows]
        observation = {name: values[seen] for name, values in windows.observation.items()}
        return policy.loss(observation, windows.chunks[asked], codes[asked])

    return Stage("policy", policy, loss, len(windows.chunk_index), steps, c.batch_size, c.optimizer_lr,
                 c.optimizer_weight_decay, c.optimizer_betas, c.optimizer_eps, c.scheduler_warmup_steps, c.ema_decay)


@torch.no_grad()
def label_codes(policy: VQBeTPolicy, windows: Windows) -> Tensor:
    """The codes (M, G) of every chunk, computed once: the tokenizer no longer changes."""
    return torch.cat([policy.vqvae.encode(part) for part in windows.chunks.split(4096)])


@dataclass(frozen=True)
class Plan:
    """What a run does, fixed before it starts. The same plan and configuration give the same weights."""

    data: str
    steps: int
    vqvae_steps: int
    seed: int
    mirror: bool
    threads: int


def split_steps(steps: int, config: VQBeTConfig) -> int:
    """How many of `steps` go to stage 1: what the configuration says, but at most a third."""
    return min(config.n_vqvae_training_steps, steps // 3)


@dataclass(frozen=True)
class Setup:
    """What a run trains on: the windows, what normalises them, and one normalised unit of action in pixels."""

    windows: Windows
    normalizer: Normalizer
    contract: Contract
    n_episodes: int
    action_unit: float


def prepare(demos: Demos, config: VQBeTConfig, mirror: bool) -> Setup:
    """Demonstrations -> windows, once for the whole run. Raises BadInput when they do not fit the configuration."""
    sizes = {name: values.shape[1] for name, values in demos.observation.items()}
    wanted = config.observation_sizes | {"action": config.action_dim}
    found = sizes | {"action": demos.action.shape[1]}
    if found != wanted:
        raise BadInput(f"{demos.source}: holds {found}, the configuration expects {wanted}")
    n_episodes, contract = len(demos), demos.contract
    demos = mirror_pusht(demos) if mirror else demos
    normalizer = Normalizer.fit(demos, relative=config.use_relative_actions)
    windows = make_windows(demos, normalizer, config.n_obs_steps, config.n_queries, config.action_chunk_size,
                           config.use_relative_actions)
    return Setup(windows, normalizer, contract, n_episodes, normalizer.unit("action"))


def calibrate(minutes: float, config: VQBeTConfig, setup: Setup, seed: int) -> int:
    """The number of steps that take `minutes` on this machine: both stages are timed on a scratch policy."""
    policy = build_policy(config)
    seconds = []
    for stage in (vqvae_stage(policy, setup.windows, 100), policy_stage(policy, setup.windows, 100)):
        for step in range(5):
            stage.step(step, seed)
        start = time.perf_counter()
        for step in range(5, 25):
            stage.step(step, seed)
        seconds.append((time.perf_counter() - start) / 20)
    first, second = seconds
    most_vqvae = config.n_vqvae_training_steps
    steps = most_vqvae + (60 * minutes - most_vqvae * first) / second
    if steps < 3 * most_vqvae:  # a third of the steps is stage 1
        steps = 60 * minutes / (first / 3 + second * 2 / 3)
    return max(3, round(steps))


def train(data: str, out: Path, config: VQBeTConfig | None = None, steps: int | None = None,
          minutes: float | None = None, seed: int = 0, mirror: bool | None = None, quiet: bool = False) -> VQBeTPolicy:
    """Train both stages on a SOURCE into a run directory, and return the policy that acts.

    Exactly one of `steps` and `minutes`. `mirror` adds the mirror image of every PushT demonstration; None: where
    the demonstrations are PushT's. Raises BadInput for unusable data or an `out` that already holds a run.
    """
    out, config = Path(out), config or VQBeTConfig.laptop()
    if (steps is None) == (minutes is None) or min(steps or 3, minutes or 1) <= 0 or (steps or 3) < 3:
        raise BadInput("give either a number of steps (at least 3) or of minutes")
    if (out / "train_state.json").exists():
        raise BadInput(f"{out}: already holds a run; continue it with --resume {out}, or choose another folder")
    demos = load_demos(data)
    mirror = demos.contract == PUSHT if mirror is None else mirror
    setup = prepare(demos, config, mirror)
    with run_randomness(seed):
        steps = steps or calibrate(minutes or 0, config, setup, seed)
    plan = Plan(data, steps, split_steps(steps, config), seed, mirror, torch.get_num_threads())
    write_json(out / "config.json", config.to_dict())
    write_json(out / "normalizer.json", setup.normalizer.to_dict())
    write_json(out / "contract.json", setup.contract.to_dict())
    write_json(out / "split.json", {"train": list(range(setup.n_episodes)), "val": []})
    write_json(out / "train_state.json", asdict(plan))
    return run_plan(plan, config, setup, out, quiet)


def resume(out: Path, quiet: bool = False) -> VQBeTPolicy:
    """Continue a run that was interrupted; it ends with the weights of one that was not."""
    out = Path(out)
    plan, config = Plan(**read_json(out / "train_state.json")), VQBeTConfig.from_dict(read_json(out / "config.json"))
    torch.set_num_threads(plan.threads)
    return run_plan(plan, config, prepare(load_demos(plan.data), config, plan.mirror), out, quiet)


def run_plan(plan: Plan, config: VQBeTConfig, setup: Setup, out: Path, quiet: bool) -> VQBeTPolicy:
    """Both stages, from wherever the run directory stands; then the weights that act go to model.safetensors."""
    journal = Journal(out, setup.action_unit, quiet)
    with run_randomness(plan.seed):
        policy = build_policy(config)
        saved = read_checkpoint(out)
        if saved:
            policy.load_state_dict(saved.part("policy"))
        stage = None
        for number, (make, steps) in enumerate(((vqvae_stage, plan.vqvae_steps),
                                                (policy_stage, plan.steps - plan.vqvae_steps))):
            if saved and number < saved.stage:
                continue
            stage = make(policy, setup.windows, steps)
            start = 0
            if saved and number == saved.stage:
                start = saved.restore(stage)
            run_stage(stage, number, start, plan.seed, policy, out, journal)
        assert stage is not None
        acting = stage.acting()
    tensors = {k: v.contiguous() for k, v in acting.state_dict().items()}
    write_atomically(out / "model.safetensors", lambda path: save_file(tensors, path))
    assert isinstance(acting, VQBeTPolicy)
    return acting.eval()


CHECKPOINT_SECONDS = 20.0


def run_stage(stage: Stage, number: int, start: int, seed: int, policy: VQBeTPolicy, out: Path,
              journal: "Journal") -> None:
    """Steps `start`.. of a stage, with a checkpoint every 20 seconds and at the end."""
    saved_at = time.monotonic()
    for step in journal.steps(stage, start):
        metrics = stage.step(step, seed)
        journal.note(stage, step, metrics)
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS or step == stage.steps - 1:
            write_checkpoint(out, policy, stage, number, step + 1)
            saved_at = time.monotonic()


class Journal:
    """Live progress on the terminal, and the same figures in log.jsonl."""

    def __init__(self, out: Path, action_unit: float, quiet: bool):
        self.path, self.action_unit, self.quiet = out / "log.jsonl", action_unit, quiet
        self.every = 10

    def steps(self, stage: Stage, start: int) -> tqdm:
        """The steps still to do, as a progress bar. What the log says of later steps is dropped first."""
        kept = [line for line in read_log(self.path) if (line["stage"], line["step"]) < (stage.name, start)
                or line["stage"] != stage.name]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.bar = tqdm(range(start, stage.steps), initial=start, total=stage.steps, desc=f"{stage.name:>9}",
                        unit="step", disable=self.quiet, dynamic_ncols=True, mininterval=0.5)
        return self.bar

    def note(self, stage: Stage, step: int, metrics: Metrics) -> None:
        if step % self.every and step != stage.steps - 1:
            return
        values = {name: round(value.item(), 6) for name, value in metrics.items()}
        for name in ("reconstruction", "offset_loss"):
            if name in values:
                values[f"{name}_px"] = round(values.pop(name) * self.action_unit, 3)
        self.bar.set_postfix(values, refresh=False)
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(json.dumps({"stage": stage.name, "step": step, **values}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl; a last line cut short by a kill is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


@dataclass(frozen=True)
class Checkpoint:
    """A run in the middle: the stage it is in, the next step, and every tensor that training carries along."""

    stage: int
    step: int
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        return {k.removeprefix(name + "."): v for k, v in self.tensors.items() if k.startswith(name + ".")}

    def restore(self, stage: Stage) -> int:
        """Give the stage its optimizer and moving average back; returns the next step."""
        if stage.average is not None:
            stage.average.load_state_dict(self.part("average"))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.part("optimizer").items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
        stage.optimizer.load_state_dict(stage.optimizer.state_dict() | {"state": state})
        return self.step


def write_checkpoint(out: Path, policy: VQBeTPolicy, stage: Stage, number: int, step: int) -> None:
    """train_state.safetensors, whole or not at all: one file, so that a kill cannot leave two that disagree."""
    tensors = {f"policy.{k}": v for k, v in policy.state_dict().items()}
    if stage.average is not None:
        tensors |= {f"average.{k}": v for k, v in stage.average.state_dict().items()}
    for index, state in stage.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    where = {"stage": str(number), "step": str(step)}
    write_atomically(out / "train_state.safetensors", lambda path: save_file(tensors, path, metadata=where))


def read_checkpoint(out: Path) -> Checkpoint | None:
    """The checkpoint of a run directory, or None before the first."""
    path = out / "train_state.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            where = file.metadata()
            return Checkpoint(int(where["stage"]), int(where["step"]), {k: file.get_tensor(k) for k in file.keys()})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: damaged ({error}); delete it to start this run again") from None


@dataclass(frozen=True)
class Run:
    """A trained policy and what belongs to it."""

    path: Path
    policy: VQBeTPolicy
    normalizer: Normalizer
    contract: Contract
    plan: Plan


def load_run(source: str | Path) -> Run:
    """A run directory, or `shipped`, the policy that comes with the course. Raises BadInput for anything less."""
    path = SHIPPED if str(source) == "shipped" else Path(source)
    if not path.is_dir():
        raise BadInput(f"{path}: no such run directory")
    config = VQBeTConfig.from_dict(read_json(path / "config.json"))
    policy = build_policy(config)
    weights = path / "model.safetensors"
    if not weights.exists():
        raise BadInput(f"{weights}: missing; finish the training with: vqbet-course train --resume {path}")
    try:
        policy.load_state_dict(load_file(weights))
    except SafetensorError as error:
        raise BadInput(f"{weights}: damaged ({error}); copy it again or train again") from None
    except RuntimeError as error:
        raise BadInput(f"{weights}: does not fit config.json ({str(error).splitlines()[1].strip()})") from None
    return Run(path, policy.eval(), Normalizer.from_dict(read_json(path / "normalizer.json")),
               Contract.from_dict(read_json(path / "contract.json")), Plan(**read_json(path / "train_state.json")))


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; is {path.parent} a run directory?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not valid JSON ({error})") from None


def write_json(path: Path, values: dict[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2) + "\n")


@contextmanager
def run_randomness(seed: int) -> Iterator[None]:
    """Draws inside belong to the run: seeded on entry, and nobody else's draws change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
