"""The configuration of a VQ-BeT, its reading from JSON, and the rules that its values must keep (lesson 06)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import GOAL

Rule = tuple[bool, str]
"""Whether a rule holds, and the message if it does not."""


@dataclass(frozen=True)
class ActingConfig:
    """How a trained policy acts: the temperature at which codes are drawn, the actions executed per decision, and
    whether the overlapping chunks of successive decisions are averaged."""

    temperature: float
    n_action_steps: int
    average_chunks: bool = False


@dataclass(frozen=True, kw_only=True)
class VQBeTConfig:
    """The configuration of a VQ-BeT: first LeRobot's fields with LeRobot's defaults, then the course's own.

    Raises BadInput, in one line, when values do not fit together."""

    # LeRobot: the window, the chunk
    n_obs_steps: int = 5
    n_action_pred_token: int = 3
    action_chunk_size: int = 5
    # LeRobot: the camera (lesson 12)
    vision_backbone: str = "resnet18"
    crop_shape: tuple[int, int] | None = (84, 84)
    crop_is_random: bool = True
    pretrained_backbone_weights: str | None = "ResNet18_Weights.IMAGENET1K_V1"
    use_group_norm: bool = False
    spatial_softmax_num_keypoints: int = 32
    # LeRobot: the tokenizer (lesson 03)
    n_vqvae_training_steps: int = 20000
    vqvae_n_embed: int = 16
    vqvae_embedding_dim: int = 256
    vqvae_enc_hidden_dim: int = 128
    # LeRobot: the GPT (lesson 04)
    gpt_block_size: int = 500
    gpt_input_dim: int = 512
    gpt_output_dim: int = 512
    gpt_n_layer: int = 8
    gpt_n_head: int = 8
    gpt_hidden_dim: int = 512
    dropout: float = 0.1
    # LeRobot: the loss, and how codes are drawn (lesson 05)
    offset_loss_weight: float = 10000.0
    primary_code_loss_weight: float = 5.0
    secondary_code_loss_weight: float = 0.5
    bet_softmax_temperature: float = 0.1
    sequentially_select: bool = False
    # LeRobot: the optimizers (lesson 08)
    optimizer_lr: float = 1e-4
    optimizer_betas: tuple[float, float] = (0.95, 0.999)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 1e-6
    optimizer_vqvae_lr: float = 1e-3
    optimizer_vqvae_weight_decay: float = 1e-4
    scheduler_warmup_steps: int = 500
    # the course: what is observed, what is done
    observation_sizes: dict[str, int]  # {name: numbers per step}; empty where only cameras observe
    image_shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # {camera: (3, H, W)}
    goal_shape: tuple[int, int] | None = None  # number of goals, numbers in each (lesson 11)
    action_dim: int = 2
    use_relative_actions: bool = False  # chunks relative to observation.state
    # the course: the row of tokens, the tokenizer's layers, the loss, training
    action_queries: bool = True  # a query after every step; False: observation tokens are answered
    vqvae_n_layers: int = 2
    teacher_forcing: bool = False  # in training, later codes are given the true first one, not the sampled one
    offset_code: str = "sampled"  # the code whose offset is trained: "sampled" or "ground_truth"
    vqvae_batch_size: int = 1024
    batch_size: int = 256
    ema_decay: float = 0.0  # moving average of the weights that act; 0: none
    # the course: acting
    n_action_steps: int | None = None  # actions executed per decision; None: the whole chunk
    average_chunks: bool = False

    def __post_init__(self) -> None:
        check_rules(size_rules(self) + choice_rules(self))

    @classmethod
    def laptop(cls, **changes: Any) -> "VQBeTConfig":
        """The configuration that trains on a CPU in minutes, with `changes`."""
        return cls(**(LAPTOP | changes))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VQBeTConfig":
        """The configuration that `to_dict` or its JSON describes. Raises BadInput for anything else."""
        return read_fields(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """The fields as {name: value}."""
        return asdict(self)

    @property
    def acting(self) -> ActingConfig:
        """How a policy of this configuration acts."""
        return ActingConfig(self.bet_softmax_temperature, self.steps_per_decision, self.average_chunks)

    def with_acting(self, acting: ActingConfig) -> "VQBeTConfig":
        """The same configuration for a policy that acts so."""
        return (
            self
            if acting == self.acting
            else replace(
                self,
                bet_softmax_temperature=acting.temperature,
                n_action_steps=acting.n_action_steps,
                average_chunks=acting.average_chunks,
            )
        )

    @property
    def steps_per_decision(self) -> int:
        """Actions executed before the policy decides again."""
        return self.action_chunk_size if self.n_action_steps is None else self.n_action_steps

    @property
    def tokens_per_step(self) -> int:
        """Observation tokens of one step: one per camera, one for all numbers together."""
        return len(self.image_shapes) + bool(self.observation_sizes)

    @property
    def goal_sizes(self) -> dict[str, int]:
        """The goals as a field of every step, side by side; empty where there are none."""
        return {GOAL: self.goal_shape[0] * self.goal_shape[1]} if self.goal_shape else {}

    @property
    def n_queries(self) -> int:
        """Chunks that a window asks for: one per observation step and the additional future ones."""
        return self.n_obs_steps + self.n_action_pred_token - 1

    @property
    def window_reach(self) -> int:
        """Steps that a training window needs from its own onwards: those of its last chunk."""
        return max(1, self.n_queries - self.n_obs_steps + self.action_chunk_size)


LAPTOP: dict[str, Any] = dict(
    pretrained_backbone_weights=None,
    use_group_norm=True,  # a camera learns from scratch, nothing is fetched
    n_obs_steps=2,
    n_action_pred_token=1,
    action_chunk_size=4,
    n_vqvae_training_steps=1500,
    vqvae_n_embed=8,
    vqvae_embedding_dim=64,
    gpt_block_size=16,
    gpt_input_dim=128,
    gpt_output_dim=128,
    gpt_n_layer=3,
    gpt_n_head=4,
    gpt_hidden_dim=96,
    dropout=0.15,
    offset_loss_weight=10.0,
    optimizer_lr=1e-3,
    optimizer_weight_decay=0.1,
    scheduler_warmup_steps=200,
    ema_decay=0.999,
    sequentially_select=True,
    action_queries=False,
    teacher_forcing=True,
    offset_code="ground_truth",
    use_relative_actions=True,
    n_action_steps=1,
    average_chunks=True,
    bet_softmax_temperature=0.35,
)
"""What the configuration that trains on a CPU in minutes changes in LeRobot's defaults."""


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


def most_of(name: str) -> int:
    """The highest count that a field may hold: with more no network can be built, or it takes hours to find that out."""
    if name == "n_vqvae_training_steps":
        return 10**12
    return 1000 if name.endswith(("n_layer", "n_layers")) else 10**6


def size_rules(c: VQBeTConfig) -> list[Rule]:
    """What must hold between the counts, shapes and widths of a VQBeTConfig."""
    values = {f.name: getattr(c, f.name) for f in fields(c) if f.name != "scheduler_warmup_steps"}
    counts = {name: value for name, value in values.items() if type(value) is int}
    counts |= c.observation_sizes | c.goal_sizes | {name: max(s, default=1) for name, s in c.image_shapes.items()}
    goals = c.goal_shape[0] if c.goal_shape else 0
    tokens = goals + (c.tokens_per_step + c.action_queries) * c.n_obs_steps + c.n_action_pred_token - 1
    height, width = c.crop_shape or (1, 1)
    fits = [len(s) == 3 and s[0] == 3 and s[1] >= height and s[2] >= width for s in c.image_shapes.values()]
    return [
        *((count >= 1, f"{name} must be at least 1, not {count}") for name, count in counts.items()),
        *((count <= most_of(name), f"{name} must be at most {most_of(name)}") for name, count in counts.items()),
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


def acting_rules(acting: ActingConfig, chunk_size: int) -> list[Rule]:
    """What must hold for an ActingConfig of a policy that decides chunks of `chunk_size` actions."""
    return [
        (
            1 <= acting.n_action_steps <= chunk_size,
            f"n_action_steps {acting.n_action_steps} must lie in 1..action_chunk_size {chunk_size}",
        ),
        (0 <= acting.temperature < math.inf, "bet_softmax_temperature must be a finite number of at least 0"),
    ]


def choice_rules(c: VQBeTConfig) -> list[Rule]:
    """What must hold for each way to build and train a VQ-BeT."""
    return [
        (
            not (c.image_shapes and c.use_group_norm and c.pretrained_backbone_weights),
            "use_group_norm cannot keep pretrained_backbone_weights; set one of them to False or None",
        ),
        (
            c.action_queries or c.n_action_pred_token == 1,
            "n_action_pred_token must be 1 without action_queries: nothing asks about the future",
        ),
        (
            not c.sequentially_select or c.vqvae_n_layers >= 2,
            "sequentially_select needs vqvae_n_layers of at least 2; with one layer, set it to false",
        ),
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
        (
            len(c.optimizer_betas) == 2 and all(0 <= b < 1 and isinstance(b, float) for b in c.optimizer_betas),
            "optimizer_betas must be two numbers of at least 0 and below 1, written like 0.0",
        ),
    ]
