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
    "n_obs_steps": ("steps", "steps in the window. 1: no velocity; many: it copies its own last motion"),
    "n_action_pred_token": (
        "queries",
        "queries for now and later. More: more lessons per window, none of them acted out",
    ),
    "action_chunk_size": ("actions", "W. Short: dithers at forks; long: blind for long, and harder to put into codes"),
    "vision_backbone": ("name", "ResNet of the camera. Deeper: slower, rarely better in simulation"),
    "crop_shape": ("pixels", "pixels kept of an image. Too small: the T leaves the image"),
    "crop_is_random": ("yes/no", "random crops in training. Off: the policy learns pixel positions by heart"),
    "pretrained_backbone_weights": ("name", "weights to start from, fetched from the network; None: from scratch"),
    "use_group_norm": ("yes/no", "group instead of batch norm. Off with moving averages: statistics disagree"),
    "spatial_softmax_num_keypoints": ("points", "places that the camera reports. Few: the T's angle is lost"),
    "n_vqvae_training_steps": ("steps", "steps of stage 1. Too few: coarse codes, for good, since they are frozen"),
    "vqvae_n_embed": ("codes", "K. Few: coarse moves; many: rare codes that the predictor never learns"),
    "vqvae_embedding_dim": ("numbers", "width in which codes live. Too small: layers cannot tell chunks apart"),
    "vqvae_enc_hidden_dim": ("numbers", "width of the tokenizer's MLPs. Too small: blurred chunks"),
    "gpt_block_size": ("tokens", "longest row of tokens. Too short: refused"),
    "gpt_input_dim": ("numbers", "width of observation tokens and queries. Small: details of the board are lost"),
    "gpt_output_dim": ("numbers", "width of what the heads read. Small: codes and offset compete"),
    "gpt_n_layer": ("layers", "blocks. Many: slow; few: cannot combine steps"),
    "gpt_n_head": ("heads", "heads per block; must divide gpt_hidden_dim"),
    "gpt_hidden_dim": ("numbers", "width inside. Large: slow on a CPU, and overfits a few demonstrations"),
    "dropout": ("share", "share of activations forgotten in training. 0: overfits; above 0.3: blurred choices"),
    "offset_loss_weight": ("weight", "weight of the corrected chunk. High: the GPT serves the offset, not the codes"),
    "primary_code_loss_weight": ("weight", "weight of the first layer's code. Low: wrong moves, finely corrected"),
    "secondary_code_loss_weight": ("weight", "weight of the later layers' codes. High: distracts from the move"),
    "bet_softmax_temperature": ("number", "0: always the likeliest code, gets stuck; above 1: wild"),
    "sequentially_select": ("yes/no", "later codes given the first. Off: pairs that no demonstration contains"),
    "optimizer_lr": ("per step", "step size of stage 2. High: diverges; low: unfinished when time is up"),
    "optimizer_betas": ("number", "memory of AdamW for gradient and its square. Long: slow to turn"),
    "optimizer_eps": ("number", "floor in AdamW's division. Large: rare codes hardly learn"),
    "optimizer_weight_decay": ("number", "pull of the weights towards 0. Low: overfits; high: underfits"),
    "optimizer_vqvae_lr": ("per step", "step size of stage 1. High: codes run away from their chunks and die"),
    "optimizer_vqvae_weight_decay": ("number", "the same pull in stage 1"),
    "scheduler_warmup_steps": ("steps", "steps of growing step size. 0: the first steps can wreck the attention"),
    "observation_sizes": ("numbers", "names and sizes of what is seen. They must be those of the demonstrations"),
    "image_shapes": (
        "pixels",
        "names and shapes of the cameras, each a token per step. They must be those of the data",
    ),
    "goal_shape": ("numbers", "goals in front of the window (lesson 11), number and width. None: one task only"),
    "action_dim": ("numbers", "A, numbers per action"),
    "use_relative_actions": ("yes/no", "codes are moves, not places. Off: larger reconstruction error"),
    "action_queries": (
        "yes/no",
        "a learned token after every observation. On: chunks are answered there; off: at the observations themselves",
    ),
    "vqvae_n_layers": ("layers", "G. 1: coarse; each layer more refines, and is one more choice to get wrong"),
    "teacher_forcing": (
        "yes/no",
        "in training, later codes are given the true first code. Off: the sampled one, and much noise from wrong ones",
    ),
    "offset_code": ("name", "sampled: repairs wrong codes, mixes modes; ground_truth: keeps modes, repairs nothing"),
    "vqvae_batch_size": ("chunks", "chunks per step of stage 1. Small: more codes die"),
    "batch_size": ("windows", "windows per step of stage 2. Small: noisy; large: fewer steps in the same time"),
    "ema_decay": ("share", "moving average of the weights that act. 0: a policy that changes from step to step"),
    "n_action_steps": ("actions", "actions per decision. 1: dithers; the whole chunk: blind to a shove"),
    "average_chunks": ("yes/no", "average overlapping chunks. On: smooth, and through the middle of a fork"),
}
"""{field: (unit, what it does, and what goes wrong when it is badly chosen)} of a VQBeTConfig."""


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


def field_table(n_lerobot: int) -> str:
    """All of `hyperparameters` as a Markdown table; those after the first `n_lerobot` are marked as the course's own."""
    lines = ["| field | default | laptop | unit | what it does, and when it is off |", "|---|---|---|---|---|"]
    for i, row in enumerate(hyperparameters()):
        name = f"`{row.name}`" + (" (ours)" if i >= n_lerobot else "")
        default, laptop = (text.replace("ResNet18_Weights.", "") for text in (row.default, row.laptop))
        changed = f"**{laptop}**" if laptop != default else ""
        lines.append(f"| {name} | {default} | {changed} | {row.unit} | {row.meaning} |")
    return "\n".join(lines)


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
