"""Reading a configuration from JSON, and the rules that the values of a VQ-BeT configuration must keep."""

import math
from collections.abc import Sequence
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from vqbet_course.core.errors import BadInput

Rule = tuple[bool, str]
"""Whether a rule holds, and the message if it does not."""


def from_json(value: Any) -> Any:
    """The same value with tuples in place of lists: JSON has lists only, a frozen configuration holds tuples."""
    if isinstance(value, dict):
        return {name: from_json(inner) for name, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value


def read_fields[T](cls: type[T], values: dict[str, Any]) -> T:
    """A dataclass with the values of a JSON object. Raises BadInput for unknown or missing fields and wrong types."""
    unknown = set(values) - {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown:
        raise BadInput(f"configuration: unknown field {sorted(unknown)[0]!r}")
    try:
        return typed(cls, {name: from_json(value) for name, value in values.items()})
    except (TypeError, AttributeError) as error:
        raise BadInput(f"configuration: a value is missing or has the wrong type ({error})") from None


def typed[T](cls: type[T], values: dict[str, Any]) -> T:
    """A dataclass made of values. Raises TypeError, naming the field, for a value of another type than its field's."""
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name in values and not is_of(values[f.name], f.type):
            raise TypeError(f"{f.name} is {values[f.name]!r}"[:80])
    return cls(**values)


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type. A whole number is a float, too; True is no number; NaN is none."""
    if isinstance(kind, UnionType):
        return any(is_of(value, part) for part in kind.__args__)
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (int, float):
        return type(value) is not bool and isinstance(value, (int, origin)) and math.isfinite(value)
    if not isinstance(origin, type):
        return True
    wanted: Any = NoneType if origin is None else origin
    if not isinstance(value, wanted):
        return False
    inner: Any = value
    if origin is dict and parts:
        return all(is_of(k, parts[0]) and is_of(v, parts[1]) for k, v in inner.items())
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        return len(inner) == len(parts) and all(map(is_of, inner, parts))
    return not (origin is tuple and parts) or all(is_of(part, parts[0]) for part in inner)


def check_rules(rules: Sequence[Rule]) -> None:
    """Raise BadInput, in one line, for the first rule that does not hold."""
    for kept, problem in rules:
        if not kept:
            raise BadInput(f"configuration: {problem}")


def size_rules(c: Any) -> list[Rule]:
    """What must hold between the counts, shapes and widths of a VQBeTConfig."""
    values = {f.name: getattr(c, f.name) for f in fields(c) if f.name != "scheduler_warmup_steps"}
    counts = {name: value for name, value in values.items() if type(value) is int}
    counts |= c.observation_sizes | c.goal_sizes
    goals = c.goal_shape[0] if c.goal_shape else 0
    tokens = goals + (c.tokens_per_step + 1) * c.n_obs_steps + c.n_action_pred_token - 1
    height, width = c.crop_shape or (1, 1)
    fits = [len(s) == 3 and s[0] == 3 and s[1] >= height and s[2] >= width for s in c.image_shapes.values()]
    return [(count >= 1, f"{name} must be at least 1, not {count}") for name, count in counts.items()] + [
        (c.tokens_per_step >= 1, "observation_sizes and image_shapes are both empty: nothing is observed"),
        (all(fits), f"image_shapes must be (3, height, width), at least as large as crop_shape {c.crop_shape}"),
        (len(set(c.image_shapes.values())) <= 1, "image_shapes: cameras share an encoder, so give them one shape"),
        (
            c.gpt_hidden_dim % max(1, c.gpt_n_head) == 0,
            f"gpt_hidden_dim {c.gpt_hidden_dim} must be a multiple of gpt_n_head {c.gpt_n_head}",
        ),
        (tokens <= c.gpt_block_size, f"{tokens} tokens do not fit into gpt_block_size {c.gpt_block_size}"),
        (c.vqvae_n_embed >= 2, "vqvae_n_embed must be at least 2"),
        *acting_rules(c.acting, c.action_chunk_size),
    ]


def acting_rules(acting: Any, chunk_size: int) -> list[Rule]:
    """What must hold for an ActingConfig of a policy that decides chunks of `chunk_size` actions."""
    return [
        (
            1 <= acting.n_action_steps <= chunk_size,
            f"n_action_steps {acting.n_action_steps} must lie in 1..action_chunk_size {chunk_size}",
        ),
        (acting.temperature >= 0, "bet_softmax_temperature must not be negative"),
    ]


def choice_rules(c: Any) -> list[Rule]:
    """What must hold for each way to build and train a VQ-BeT."""
    return [
        (
            not (c.image_shapes and c.use_group_norm and c.pretrained_backbone_weights),
            "use_group_norm cannot keep pretrained_backbone_weights; set one of them to False or None",
        ),
        (not c.sequentially_select or c.vqvae_n_layers >= 2, "sequentially_select needs vqvae_n_layers of at least 2"),
        (
            c.offset_code in ("sampled", "ground_truth"),
            f"offset_code must be sampled or ground_truth, not {c.offset_code!r}",
        ),
        (
            not c.use_relative_actions or c.observation_sizes.get("observation.state") == c.action_dim,
            "use_relative_actions needs an observation.state as wide as the action",
        ),
        (0 <= c.dropout < 1 and 0 <= c.ema_decay < 1, "dropout and ema_decay must lie in 0..1"),
        (c.optimizer_lr > 0 and c.optimizer_vqvae_lr > 0, "learning rates must be above 0"),
    ]
