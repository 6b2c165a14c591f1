"""What every field of the configuration means, and how a file or the command line changes some of them."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from vqbet_course.core.configuration import LAPTOP, VQBeTConfig, from_json, is_of
from vqbet_course.core.errors import BadInput

FROM_DATA = ("observation_sizes", "image_shapes", "goal_shape", "action_dim")
"""Fields that the demonstrations decide; nobody sets them by hand."""

MEANINGS: dict[str, tuple[str, str]] = {
    "n_obs_steps": ("steps", "observations that a decision looks back at, the newest included"),
    "n_action_pred_token": ("queries", "action queries from the newest observation on; each is answered by a chunk"),
    "action_chunk_size": ("actions", "actions in a chunk, which one set of codes stands for"),
    "vision_backbone": ("name", "torchvision's ResNet that sees the images"),
    "crop_shape": ("pixels", "height and width of the part of an image that is seen; none: all of it"),
    "crop_is_random": ("yes/no", "whether training crops at random places; acting always crops the middle"),
    "pretrained_backbone_weights": ("name", "torchvision's weights that a camera starts from; none: random ones"),
    "use_group_norm": ("yes/no", "group norm in place of batch norm in the ResNet"),
    "spatial_softmax_num_keypoints": ("points", "places in an image that a camera reports"),
    "n_vqvae_training_steps": ("steps", "training steps of the tokenizer, at most a third of all"),
    "vqvae_n_embed": ("codes", "codes in each layer of the tokenizer"),
    "vqvae_embedding_dim": ("numbers", "width of a code vector"),
    "vqvae_enc_hidden_dim": ("numbers", "width of the tokenizer's encoder and decoder"),
    "gpt_block_size": ("tokens", "the longest row of tokens that the GPT can read"),
    "gpt_input_dim": ("numbers", "width of an observation token"),
    "gpt_output_dim": ("numbers", "width of what the GPT gives to the heads"),
    "gpt_n_layer": ("layers", "transformer blocks"),
    "gpt_n_head": ("heads", "attention heads in a block; they divide gpt_hidden_dim"),
    "gpt_hidden_dim": ("numbers", "width inside the GPT"),
    "dropout": ("share", "share of numbers that training sets to zero in the GPT"),
    "offset_loss_weight": ("weight", "weight of the offset's L1 loss"),
    "primary_code_loss_weight": ("weight", "weight of the first code's focal loss"),
    "secondary_code_loss_weight": ("weight", "weight of the later codes' focal loss"),
    "bet_softmax_temperature": ("number", "temperature at which codes are drawn; 0 takes the most likely"),
    "sequentially_select": ("yes/no", "choose later codes given the first one, instead of all at once"),
    "optimizer_lr": ("per step", "highest learning rate of the policy"),
    "optimizer_betas": ("number", "AdamW's two decay rates"),
    "optimizer_eps": ("number", "AdamW's epsilon"),
    "optimizer_weight_decay": ("number", "weight decay of the policy's matrices"),
    "optimizer_vqvae_lr": ("per step", "learning rate of the tokenizer"),
    "optimizer_vqvae_weight_decay": ("number", "weight decay of the tokenizer's matrices"),
    "scheduler_warmup_steps": ("steps", "steps in which the learning rate rises"),
    "observation_sizes": ("numbers", "numbers in each observed feature (from the data)"),
    "image_shapes": ("pixels", "shape of each camera's images (from the data)"),
    "goal_shape": ("numbers", "how many goals, and numbers in each (from the data)"),
    "action_dim": ("numbers", "numbers in an action (from the data)"),
    "use_relative_actions": ("yes/no", "chunks are relative to observation.state when they are decided"),
    "vqvae_n_layers": ("layers", "layers of the residual tokenizer, so codes for each chunk"),
    "offset_code": ("name", "the code whose offset is trained: sampled or ground_truth"),
    "vqvae_batch_size": ("chunks", "chunks in a batch of the tokenizer's training"),
    "batch_size": ("windows", "windows in a batch of the policy's training"),
    "ema_decay": ("share", "how much of itself the moving average of the weights keeps at a step; 0: no average"),
    "n_action_steps": ("actions", "actions executed before the next decision; none: the whole chunk"),
    "average_chunks": ("yes/no", "act on the mean of the overlapping chunks"),
}
"""{field: (unit, meaning)} of a VQBeTConfig."""


class Hyperparameter(NamedTuple):
    """A field of the configuration: its name, LeRobot's default or the course's, the laptop's value, unit, meaning."""

    name: str
    default: str
    laptop: str
    unit: str
    meaning: str


def hyperparameters() -> list[Hyperparameter]:
    """Every field of a VQBeTConfig, in its order, as texts."""
    blank = VQBeTConfig(observation_sizes={"observation.state": 1})
    rows = []
    for f in fields(VQBeTConfig):
        given = f.name in FROM_DATA
        default = "from data" if given else in_words(getattr(blank, f.name))
        laptop = in_words(LAPTOP[f.name]) if f.name in LAPTOP else default
        rows.append(Hyperparameter(f.name, default, laptop, *MEANINGS[f.name]))
    return rows


def listing() -> list[str]:
    """Two lines of text for each of `hyperparameters`."""
    lines = []
    for row in hyperparameters():
        values = row.default if row.laptop == row.default else f"{row.default}, on the laptop {row.laptop}"
        lines += [f"{row.name}: {values} ({row.unit})", f"    {row.meaning}"]
    return lines


def in_words(value: Any) -> str:
    """A value as it is written in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(map(in_words, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def changes_from(file: Path | None, settings: Iterable[str]) -> dict[str, Any]:
    """{field: value} of a YAML or JSON file, and then of texts `NAME=VALUE`, which win.

    Raises BadInput for a file that is no such file, an unknown field, one that the data decide, a value of another type
    than the field's, and a field that is set twice on the command line."""
    values = read_changes(file) if file is not None else {}
    given: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise BadInput(f"--set {setting}: give NAME=VALUE, like --set action_chunk_size=4")
        if name in given:
            raise BadInput(f"--set {name}: given twice")
        given[name] = parse(text, f"--set {setting}")
    checked = {name: checked_value(name, value, str(file)) for name, value in values.items()}
    return checked | {name: checked_value(name, value, "--set") for name, value in given.items()}


def read_changes(file: Path) -> dict[str, Any]:
    """The object in a YAML or JSON file. Raises BadInput for anything else."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--config {file}: cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from None
    values = parse(text, f"--config {file}")
    if not isinstance(values, dict):
        raise BadInput(f"--config {file}: holds no fields; write one NAME: VALUE on each line")
    return values


def parse(text: str, where: str) -> Any:
    """A YAML value; `none` is none. Raises BadInput, which says where it was, for what is no YAML."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise BadInput(f"{where}: this is not YAML") from None
    return None if value == "none" else number(value)


def number(value: Any) -> Any:
    """A value with texts like 1e-4, which YAML takes for words, as numbers."""
    if isinstance(value, dict):
        return {name: None if inner == "none" else number(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [number(inner) for inner in value]
    try:
        return float(value) if isinstance(value, str) and "e" in value.lower() else value
    except ValueError:
        return value


def checked_value(name: Any, value: Any, where: str) -> Any:
    """The value of a field. Raises BadInput for an unknown field, one that the data decide, and another type."""
    kinds = {f.name: f.type for f in fields(VQBeTConfig)}
    if name not in kinds:
        raise BadInput(
            f"{where}: there is no field {name!r}{nearest(str(name), list(kinds))}; see: vqbet-course config"
        )
    if name in FROM_DATA:
        raise BadInput(f"{where}: {name} follows from the demonstrations; leave it out")
    value = from_json(value)
    if not is_of(value, kinds[name]):
        raise BadInput(f"{where}: {name} is given in {MEANINGS[name][0]}, not as {value!r}"[:160])
    return value


def nearest(name: str, names: Sequence[str]) -> str:
    """`, perhaps NAME` for the name that looks most like this one, or nothing."""
    import difflib

    found = difflib.get_close_matches(name, names, 1)
    return f", perhaps {found[0]}" if found else ""
