"""Checkpoints in LeRobot's layout: a run written as one, and one made into a run.

A checkpoint is a folder: config.json, model.safetensors, and the two processors that normalise what goes in
and bring back what comes out. `contract.json` is ours and travels with it: sizes, units and rate.
"""

import json
import os
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig as LeRobotConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import in_plain_words, read_json, write_json
from vqbet_course.core.specs import Contract, Field
from vqbet_course.demos import Normalizer
from vqbet_course.lerobot_policy.bridge import policy_from_tensors, to_lerobot
from vqbet_course.lerobot_policy.configuration_vqbet_course import VQBeTCourseConfig
from vqbet_course.lerobot_policy.modeling_vqbet_course import wrap
from vqbet_course.lerobot_policy.processor_vqbet_course import with_spans
from vqbet_course.policy import VQBeTPolicy
from vqbet_course.tasks import DEFAULT_TASK, get_task, task_of
from vqbet_course.training.checkpoints import load_tensors
from vqbet_course.training.factory import build_network
from vqbet_course.training.runs import Run, TrainingPlan, finish_run

LOW_AND_HIGH = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}
"""The statistics that LeRobot's normalisations map to -1 and 1."""


def export_run(run: Run, out: Path, kind: str = "vqbet_course") -> None:
    """Write a run as a LeRobot checkpoint into the folder `out`, written atomically.

    kind: `vqbet_course` for the plugin, which keeps all of our configuration, or `vqbet` for LeRobot's own
    policy. Raises BadInput when `out` holds something, and as `to_lerobot` does for what has no place in `vqbet`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: exists already; remove it or name another folder")
    stats = {name: {"min": low, "max": high} for name, (low, high) in run.normalizer.bounds.items()}
    if kind == "vqbet":
        policy: Any = to_lerobot(run.policy)
        stats = with_spans(stats)  # the plugin's own processors do so themselves
    else:
        task = task_of(run.contract)
        bounds = task.contract.action_bounds if task else None
        started = replace(run.policy.config, pretrained_backbone_weights=None)  # else fetched when it is built
        policy = wrap(run.policy, VQBeTCourseConfig.of(started, action_bounds=bounds, device="cpu", push_to_hub=False))
    with in_plain_words(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            folder = Path(scratch) / "checkpoint"
            policy.save_pretrained(folder)
            for processor in make_pre_post_processors(policy.config, dataset_stats=stats):
                processor.save_pretrained(folder)
            write_json(folder / "contract.json", run.contract.to_dict())
            shutil.rmtree(out, ignore_errors=True)
            os.replace(folder, out)


def import_checkpoint(folder: Path, out: Path) -> None:
    """Make a run directory `out` of a LeRobot checkpoint of type `vqbet` or `vqbet_course`.

    Raises BadInput, in one line, for another type of policy, for tensors that are missing or have another
    shape (named), for images that are normalised, and when `out` holds a run already.
    """
    if (out / "train_state.json").exists():
        raise BadInput(f"{out}: already holds a run; choose another folder")
    config = read_config(folder)
    policy = read_policy(folder, config)
    normalizer = read_normalizer(folder, policy.config)
    write_json(out / "config.json", policy.config.to_dict())
    write_json(out / "normalizer.json", normalizer.to_dict())
    write_json(out / "contract.json", read_contract(folder, policy.config).to_dict())
    finish_run(out, policy.network)
    plan = TrainingPlan(str(folder), steps=0, vqvae_steps=0, seed=0, augment=False, threads=torch.get_num_threads())
    write_json(out / "train_state.json", asdict(plan))


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a checkpoint, when it is one of the two types that we can read."""
    path = folder / "config.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["type"]
    except FileNotFoundError:
        raise BadInput(f"{folder}: not a LeRobot checkpoint (no config.json)") from None
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{path}: damaged, or not of a LeRobot policy; copy it again") from None
    if kind not in ("vqbet", "vqbet_course"):
        raise BadInput(f"{path}: a policy of type {kind}; only vqbet and vqbet_course can be imported")
    try:
        return PreTrainedConfig.from_pretrained(folder)
    except (Exception, SystemExit) as error:  # its parser has many ways to fail, and exits for some
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise BadInput(f"{path}: LeRobot 0.6 cannot read it ({why})") from None


def read_policy(folder: Path, config: PreTrainedConfig) -> VQBeTPolicy:
    """The policy of a checkpoint, with its weights."""
    path = folder / "model.safetensors"
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; copy the checkpoint again") from None
    except SafetensorError as error:
        raise BadInput(f"{path}: damaged ({error}); copy it again") from None
    try:
        if isinstance(config, LeRobotConfig):
            return policy_from_tensors(config, {k.removeprefix("vqbet."): v for k, v in tensors.items()})
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    assert isinstance(config, VQBeTCourseConfig)
    part = "average." if config.ema_decay else "learning."
    network = build_network(config.course_config())
    load_tensors(network, {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}, path)
    return VQBeTPolicy(network)


def read_normalizer(folder: Path, config: VQBeTConfig) -> Normalizer:
    """The bounds with which a checkpoint's processors normalise numbers and actions. Raises BadInput where it
    normalises images."""
    step = read_json(
        folder / "policy_preprocessor.json",
        lambda values: next(step for step in values["steps"] if step.get("registry_name") == "normalizer_processor"),
    )
    sizes, features = config.observation_sizes | {"action": config.action_dim}, step["config"]["features"]
    modes = {
        name: step["config"]["norm_map"].get(features[name]["type"], "IDENTITY")
        for name in [*sizes, *config.image_shapes]
    }
    for name in config.image_shapes:
        if modes[name] != NormalizationMode.IDENTITY.value:
            raise BadInput(f"{folder}: normalises {name} by {modes[name]}; here images are not normalised (IDENTITY)")
    path = folder / str(step.get("state_file"))
    try:
        stats = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: missing or damaged ({error}); copy the checkpoint again") from None
    try:
        return Normalizer({name: bounds_of(modes[name], stats, name, size) for name, size in sizes.items()})
    except KeyError as error:
        raise BadInput(
            f"{path}: has no {error} to normalise by {', '.join(sorted({*modes.values()}))}; copy the checkpoint again"
        ) from None


def bounds_of(mode: str, stats: dict[str, Tensor], name: str, size: int) -> tuple[Tensor, Tensor]:
    """The values that one of LeRobot's normalisations maps to -1 and 1."""
    if mode == NormalizationMode.IDENTITY.value:
        return -torch.ones(size), torch.ones(size)
    if mode == NormalizationMode.MEAN_STD.value:
        mean, std = stats[f"{name}.mean"], stats[f"{name}.std"]
        return mean - std, mean + std
    low, high = LOW_AND_HIGH[mode]
    return stats[f"{name}.{low}"], stats[f"{name}.{high}"]


def read_contract(folder: Path, config: VQBeTConfig) -> Contract:
    """What travelled with the checkpoint, else its sizes with units unstated, at the default task's rate."""
    if (folder / "contract.json").exists():
        return read_json(folder / "contract.json", Contract.from_dict)
    images = {name: Field((*shape[1:], shape[0])) for name, shape in config.image_shapes.items()}
    numbers = {name: Field(size) for name, size in config.observation_sizes.items()}
    return Contract(images | numbers, Field(config.action_dim), get_task(DEFAULT_TASK).contract.data.fps)
