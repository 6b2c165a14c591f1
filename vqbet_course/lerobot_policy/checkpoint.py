"""Checkpoints in LeRobot's layout: a run written as one, and one made into a run.

A checkpoint is a folder: config.json, model.safetensors, and the two processors that normalise what goes in
and bring back what comes out. `contract.json` is ours and travels with it: sizes, units and rate.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig as LeRobotConfig
from lerobot.utils.constants import HF_LEROBOT_HOME
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import in_plain_words, read_json, write_json
from vqbet_course.core.specs import Contract, Field
from vqbet_course.core.units import with_stated
from vqbet_course.demos import Normalizer
from vqbet_course.lerobot_policy.bridge import policy_from_tensors, to_lerobot
from vqbet_course.lerobot_policy.configuration_vqbet_course import VQBeTCourseConfig
from vqbet_course.lerobot_policy.modeling_vqbet_course import wrap
from vqbet_course.lerobot_policy.processor_vqbet_course import with_spans
from vqbet_course.policy import VQBeTPolicy
from vqbet_course.tasks import open_source, task_of
from vqbet_course.training.checkpoints import load_tensors
from vqbet_course.training.devices import CPU, Computing
from vqbet_course.training.factory import build_network
from vqbet_course.training.integrity import WEIGHTS, check_finite
from vqbet_course.training.runs import Run, TrainingPlan, finish_run

LOW_AND_HIGH = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}
"""The statistics that LeRobot's normalisations map to -1 and 1."""


PREPROCESSOR = "policy_preprocessor.json"

BEFORE_PROCESSORS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
"""How the names of statistics among the weights begin, where LeRobot was older than its processors."""


def export_run(
    run: Run, out: Path, kind: str = "vqbet_course", clip: bool = True, computing: Computing = CPU
) -> list[str]:
    """Write a run as a LeRobot checkpoint into the folder `out`, written atomically. Returns how it clips, in lines.

    kind: `vqbet_course` for the plugin, which keeps all of our configuration but the batch sizes, or `vqbet` for
    LeRobot's own policy. clip: whether no number of a command can leave its bounds, those of the run's task or else its
    own range in the demonstrations; LeRobot's own policy has no place for that. computing: the device that LeRobot loads
    the policy to, and whether it computes in bfloat16 there, LeRobot's `use_amp`. Raises BadInput when `out` holds
    something, and as `to_lerobot` does for what has no place in `vqbet`.
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
        config = VQBeTCourseConfig.of(started, action_bounds=bounds, clip_actions=clip, device="cpu", push_to_hub=False)
        policy = wrap(run.policy, config)
    policy.config.device, policy.config.use_amp = computing.device, computing.precision == "bfloat16"
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
    return ranges_of(run, policy.config.action_bounds) if kind != "vqbet" and clip else ["commands are not clipped"]


def ranges_of(run: Run, bounds: tuple[float, float] | None) -> list[str]:
    """To what commands are clipped, line by line: `bounds`, those of the run's task, or the range of each number in the
    demonstrations, with its name and unit."""
    action, (low, high) = run.contract.action, run.normalizer.bounds["action"]
    if bounds is not None:
        return [f"commands are clipped to {bounds[0]:g} to {bounds[1]:g} {action.unit}"]
    names = action.name_of_each("action")
    each = zip(names, low.tolist(), high.tolist(), action.unit_of_each, strict=True)
    width = max(map(len, names))
    lines = [
        f"  {name:{width}}  {least:.4g} to {most:.4g} {unit}" + (", where it will stay" if least == most else "")
        for name, least, most, unit in each
    ]
    return ["commands are clipped to the range of the demonstrations:", *lines]


def import_checkpoint(folder: Path, out: Path, units: Sequence[str] = (), fps: float | None = None) -> None:
    """Make a run directory `out` of a LeRobot checkpoint of type `vqbet` or `vqbet_course`.

    units, each `NAME=UNIT`, and fps replace what the checkpoint or the dataset that it was trained on says. Raises
    BadInput, in one line, for another type of policy, for tensors that are missing or have another shape (named), for
    images that are normalised, for a rate that nothing states, and when `out` holds a run already.
    """
    if (out / "train_state.json").exists():
        raise BadInput(f"{out}: already holds a run; choose another folder")
    config = read_config(folder)
    policy = read_policy(folder, config)
    normalizer = read_normalizer(folder, config, policy.config)
    contract = read_contract(folder, policy.config, units, fps)
    write_json(out / "config.json", policy.config.to_dict())
    write_json(out / "normalizer.json", normalizer.to_dict())
    write_json(out / "contract.json", contract.to_dict())
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
    """The policy of a checkpoint, with its weights. Raises BadInput for weights that are damaged or not finite."""
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; copy the checkpoint again") from None
    except SafetensorError as error:
        raise BadInput(f"{path}: damaged ({error}); copy it again") from None
    if not (folder / PREPROCESSOR).exists():
        tensors = {name: values for name, values in tensors.items() if not name.startswith(BEFORE_PROCESSORS)}
    check_finite(tensors, path)
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


def read_normalizer(folder: Path, theirs: PreTrainedConfig, config: VQBeTConfig) -> Normalizer:
    """The bounds with which a checkpoint's processors normalise numbers and actions, or, where it is older than
    processors, the statistics among its weights. Raises BadInput where it normalises images."""
    older = not (folder / PREPROCESSOR).exists() and statistics_among_weights(folder)
    modes, path, stats = (
        ({kind: mode.value for kind, mode in theirs.normalization_mapping.items()}, folder / WEIGHTS, older)
        if older
        else read_processor(folder)
    )
    features = {**theirs.input_features, **theirs.output_features}
    of_each = {name: modes.get(feature.type.value, "IDENTITY") for name, feature in features.items()}
    for name in config.image_shapes:
        if of_each[name] != NormalizationMode.IDENTITY.value:
            raise BadInput(f"{folder}: normalises {name} by {of_each[name]}; here images are not normalised (IDENTITY)")
    sizes = config.observation_sizes | {"action": config.action_dim}
    try:
        return Normalizer({name: bounds_of(of_each[name], stats, name, size) for name, size in sizes.items()})
    except KeyError as error:
        raise BadInput(
            f"{path}: has no {error} to normalise by {', '.join(sorted({*modes.values()}))}; copy the checkpoint again"
        ) from None


def read_processor(folder: Path) -> tuple[dict[str, str], Path, dict[str, Tensor]]:
    """What a checkpoint's first processor normalises by: {type of feature: mode}, the file of statistics, and them."""
    step = read_json(
        folder / PREPROCESSOR,
        lambda values: next(step for step in values["steps"] if step.get("registry_name") == "normalizer_processor"),
    )
    path = folder / str(step.get("state_file"))
    try:
        return step["config"]["norm_map"], path, load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: missing or damaged ({error}); copy the checkpoint again") from None


def statistics_among_weights(folder: Path) -> dict[str, Tensor]:
    """{feature.statistic: values} of a checkpoint from before processors; empty for another."""
    found = {}
    for name, values in load_file(folder / WEIGHTS).items():
        part, _, buffer = name.partition(".buffer_")
        if part + "." in BEFORE_PROCESSORS:
            feature, _, what = buffer.rpartition(".")
            found[f"{feature.replace('observation_', 'observation.', 1)}.{what}"] = values
    return found


def bounds_of(mode: str, stats: dict[str, Tensor], name: str, size: int) -> tuple[Tensor, Tensor]:
    """The values that one of LeRobot's normalisations maps to -1 and 1."""
    if mode == NormalizationMode.IDENTITY.value:
        return -torch.ones(size), torch.ones(size)
    if mode == NormalizationMode.MEAN_STD.value:
        mean, std = stats[f"{name}.mean"], stats[f"{name}.std"]
        return mean - std, mean + std
    low, high = LOW_AND_HIGH[mode]
    return stats[f"{name}.{low}"], stats[f"{name}.{high}"]


def read_contract(folder: Path, config: VQBeTConfig, units: Sequence[str] = (), fps: float | None = None) -> Contract:
    """The contract of a checkpoint: what travelled with it, else the sizes of its configuration with what the dataset
    says that it was trained on, if that is still there; then `units` and `fps`. Raises BadInput where no rate is known."""
    if (folder / "contract.json").exists():
        contract = read_json(folder / "contract.json", Contract.from_dict)
    else:
        images = {name: Field((*shape[1:], shape[0])) for name, shape in config.image_shapes.items()}
        numbers = {name: Field(size) for name, size in config.observation_sizes.items()}
        contract = as_trained(Contract(images | numbers, Field(config.action_dim), 0.0), folder)
    contract = with_stated_units(contract, units)
    if fps is not None:
        contract = replace(contract, fps=fps)
    if not 0 < contract.fps < 1e6:
        raise BadInput(f"{folder}: {contract.fps:g} frames a second; state how many it acts at: --fps N")
    return contract


def as_trained(contract: Contract, folder: Path) -> Contract:
    """A contract with units and rate of the dataset and the environment that a checkpoint's train_config.json names."""
    try:
        trained = json.loads((folder / "train_config.json").read_text(encoding="utf-8"))
        dataset, env = trained["dataset"], trained.get("env") or {}
        root = Path(dataset.get("root") or HF_LEROBOT_HOME / dataset["repo_id"])
        fps = float(env.get("fps") or 0.0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return contract
    if not (root / "meta" / "info.json").exists():
        return replace(contract, fps=fps)
    source = open_source(str(root))
    return replace(contract.with_units(source.units, source.names), fps=source.fps or fps)


def with_stated_units(contract: Contract, stated: Sequence[str]) -> Contract:
    """A contract with units that it does not state itself. Raises BadInput as `with_stated` does."""
    numbers = {name: field for name, field in contract.features().items() if isinstance(field.size, int)}
    sizes = {name: len(field.unit_of_each) for name, field in numbers.items()}
    names = {name: field.names for name, field in numbers.items()}
    return contract.with_units(with_stated(contract.units(), sizes, names, stated))
