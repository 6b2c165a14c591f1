from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqbet_course.contract import BadInput
from vqbet_course.gpt import GPT
from vqbet_course.heads import CodePredictor, OffsetHead, focal_loss
from vqbet_course.vqvae import ActionVQVAE, mlp

PUSHT_KEYPOINTS = {"observation.environment_state": 16, "observation.state": 2}


@dataclass(frozen=True)
class VQBeTConfig:
    """Everything that shapes a VQ-BeT. Names and defaults are LeRobot's; the last block is ours."""

    n_obs_steps: int = 5
    n_action_pred_token: int = 3
    action_chunk_size: int = 5
    vision_backbone: str = "resnet18"
    crop_shape: tuple[int, int] | None = (84, 84)
    crop_is_random: bool = True
    pretrained_backbone_weights: str | None = "ResNet18_Weights.IMAGENET1K_V1"
    use_group_norm: bool = False
    spatial_softmax_num_keypoints: int = 32
    n_vqvae_training_steps: int = 20000
    vqvae_n_embed: int = 16
    vqvae_embedding_dim: int = 256
    vqvae_enc_hidden_dim: int = 128
    gpt_block_size: int = 500
    gpt_input_dim: int = 512
    gpt_output_dim: int = 512
    gpt_n_layer: int = 8
    gpt_n_head: int = 8
    gpt_hidden_dim: int = 512
    dropout: float = 0.1
    offset_loss_weight: float = 10000.0
    primary_code_loss_weight: float = 5.0
    secondary_code_loss_weight: float = 0.5
    bet_softmax_temperature: float = 0.1
    sequentially_select: bool = False
    optimizer_lr: float = 1e-4
    optimizer_betas: tuple[float, float] = (0.95, 0.999)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 1e-6
    optimizer_vqvae_lr: float = 1e-3
    optimizer_vqvae_weight_decay: float = 1e-4
    scheduler_warmup_steps: int = 500

    # Ours. LeRobot fixes the first three, derives the sizes from the dataset and executes whole chunks.
    vqvae_n_layers: int = 2
    offset_code: str = "sampled"  # the code whose offset is trained: "sampled" or "ground_truth"
    observation_sizes: dict[str, int] = field(default_factory=lambda: dict(PUSHT_KEYPOINTS))
    action_dim: int = 2
    use_relative_actions: bool = False  # chunks told from observation.state, in which a code is a move
    n_action_steps: int | None = None  # actions executed per decision; None: the whole chunk
    average_chunks: bool = False  # average the overlapping chunks of successive decisions
    vqvae_batch_size: int = 1024
    batch_size: int = 256
    ema_decay: float = 0.0  # moving average of the weights that act; 0: none

    @classmethod
    def laptop(cls, **changes: Any) -> "VQBeTConfig":
        """The configuration that trains on a CPU in minutes."""
        small = dict(n_obs_steps=2, n_action_pred_token=1, action_chunk_size=8, n_vqvae_training_steps=1500,
                     vqvae_embedding_dim=64, gpt_block_size=16, gpt_input_dim=128, gpt_output_dim=128,
                     gpt_n_layer=4, gpt_n_head=4, gpt_hidden_dim=128, offset_loss_weight=10.0,
                     bet_softmax_temperature=1.0, optimizer_lr=1e-3, optimizer_weight_decay=1e-2,
                     scheduler_warmup_steps=200, ema_decay=0.999)
        return cls(**(small | changes))

    def __post_init__(self) -> None:
        tokens = 2 * self.n_obs_steps + self.n_action_pred_token - 1
        checks = [
            (min(self.n_obs_steps, self.n_action_pred_token, self.action_chunk_size) >= 1,
             "n_obs_steps, n_action_pred_token and action_chunk_size must be at least 1"),
            (self.gpt_hidden_dim % self.gpt_n_head == 0,
             f"gpt_hidden_dim {self.gpt_hidden_dim} must be a multiple of gpt_n_head {self.gpt_n_head}"),
            (tokens <= self.gpt_block_size,
             f"{tokens} tokens do not fit into gpt_block_size {self.gpt_block_size}"),
            (self.vqvae_n_embed >= 2 and self.vqvae_n_layers >= 1,
             "vqvae_n_embed must be at least 2 and vqvae_n_layers at least 1"),
            (not self.sequentially_select or self.vqvae_n_layers >= 2,
             "sequentially_select needs vqvae_n_layers of at least 2"),
            (1 <= self.steps_per_decision <= self.action_chunk_size,
             f"n_action_steps {self.n_action_steps} must lie in 1..action_chunk_size {self.action_chunk_size}"),
            (self.offset_code in ("sampled", "ground_truth"),
             f"offset_code must be sampled or ground_truth, not {self.offset_code!r}"),
            (not self.use_relative_actions or self.observation_sizes.get("observation.state") == self.action_dim,
             "use_relative_actions needs an observation.state as wide as the action"),
            (self.bet_softmax_temperature >= 0, "bet_softmax_temperature must not be negative"),
            (0 <= self.dropout < 1 and 0 <= self.ema_decay < 1, "dropout and ema_decay must lie in 0..1"),
        ]
        for ok, problem in checks:
            if not ok:
                raise BadInput(f"configuration: {problem}")

    @property
    def steps_per_decision(self) -> int:
        return self.action_chunk_size if self.n_action_steps is None else self.n_action_steps

    @property
    def n_queries(self) -> int:
        """Action queries per window: one per observation step and the additional future ones."""
        return self.n_obs_steps + self.n_action_pred_token - 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VQBeTConfig":
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise BadInput(f"configuration: unknown field {sorted(unknown)[0]!r}")
        tuples = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**(values | tuples))


class StateEncoder(nn.Module):
    """Low-dimensional observations, side by side, as one token per step: {name: (B, T, size)} -> (B, T, 1, D)."""

    def __init__(self, sizes: dict[str, int], width: int):
        super().__init__()
        self.names = list(sizes)
        self.project = nn.Linear(sum(sizes.values()), width)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        return self.project(torch.cat([observation[name] for name in self.names], dim=-1)).unsqueeze(2)


class Decision(NamedTuple):
    """One decision of the policy: actions (B, W, A) = decoded (B, W, A) + offset (B, W, A);
    codes (B, G) sampled from logits (B, G, K)."""

    actions: Tensor
    codes: Tensor
    logits: Tensor
    decoded: Tensor
    offset: Tensor


class VQBeTPolicy(nn.Module):
    """VQ-BeT (Lee et al. 2024, figure 2): observation tokens and action queries -> GPT -> codes + offset -> chunk.

    Works on normalised observations and actions. `encoder` turns {name: (B, T, ...)} into (B, T, n, gpt_input_dim).
    """

    def __init__(self, config: VQBeTConfig, encoder: nn.Module):
        super().__init__()
        c = self.config = config
        self.encoder = encoder
        self.action_query = nn.Parameter(torch.randn(1, 1, 1, c.gpt_input_dim))
        self.gpt = GPT(c.gpt_input_dim, c.gpt_output_dim, c.gpt_hidden_dim, c.gpt_n_layer, c.gpt_n_head,
                       c.gpt_block_size, c.dropout)
        self.vqvae = ActionVQVAE(c.action_chunk_size, c.action_dim, c.vqvae_n_embed, c.vqvae_n_layers,
                                 c.vqvae_embedding_dim, c.vqvae_enc_hidden_dim)
        self.code_predictor = CodePredictor(c.gpt_output_dim, c.vqvae_n_embed, c.vqvae_n_layers,
                                            c.sequentially_select)
        self.offset_head = OffsetHead(c.gpt_output_dim, c.vqvae_n_embed, c.vqvae_n_layers,
                                      c.action_chunk_size, c.action_dim)
        self.reset()

    def features(self, observation: dict[str, Tensor]) -> Tensor:
        """{name: (B, T, ...)} -> what the GPT says at every action query, (B, T + n_action_pred_token - 1, D)."""
        tokens = self.encoder(observation)  # (B, T, n, D)
        B, T, n, D = tokens.shape
        query = self.action_query.expand(B, T, 1, D)
        sequence = torch.cat([tokens, query], dim=2).flatten(1, 2)  # (B, T * (n + 1), D)
        future = self.config.n_action_pred_token - 1
        sequence = torch.cat([sequence, query[:, :1, 0].expand(B, future, D)], dim=1)
        out = self.gpt(sequence)
        at_queries = list(range(n, T * (n + 1), n + 1)) + list(range(T * (n + 1), T * (n + 1) + future))
        return out[:, at_queries]

    def decide(self, features: Tensor, uniform: Tensor) -> Decision:
        """features (N, D), uniform (N, G) draws in [0, 1) -> a Decision for each row."""
        logits, codes = self.code_predictor(features, uniform, self.config.bet_softmax_temperature)
        with torch.no_grad():
            decoded = self.vqvae.decode(codes)
        offset = self.offset_head(features, codes)
        return Decision(decoded + offset, codes, logits, decoded, offset)

    def loss(self, observation: dict[str, Tensor], chunks: Tensor, codes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Stage-2 loss (VQ-BeT paper, eq. 5-7): focal loss on the codes + weighted L1 of the corrected chunk.

        Args: observation {name: (B, T, ...)}; chunks (B, Q, W, A) and their codes (B, Q, G), one per query.
        Returns the loss () and its parts, detached.
        """
        c = self.config
        features = self.features(observation).flatten(0, 1)  # (B * Q, D)
        chunks, codes = chunks.flatten(0, 1), codes.flatten(0, 1)
        decision = self.decide(features, torch.rand(codes.shape, device=features.device))
        predicted = decision.actions
        if c.offset_code == "ground_truth":
            predicted = self.vqvae.decode(codes).detach() + self.offset_head(features, codes)
        offset_loss = F.l1_loss(predicted, chunks)
        per_layer = [focal_loss(decision.logits[:, g], codes[:, g]) for g in range(c.vqvae_n_layers)]
        code_loss = c.primary_code_loss_weight * per_layer[0] + c.secondary_code_loss_weight * sum(per_layer[1:])
        loss = code_loss + c.offset_loss_weight * offset_loss
        right = (decision.logits.argmax(-1) == codes).float().mean(0)
        parts = {"code_loss": code_loss, "offset_loss": offset_loss, "primary_accuracy": right[0]}
        return loss, {name: value.detach() for name, value in parts.items()}

    def reset(self, generators: Sequence[torch.Generator] | None = None) -> None:
        """Forget the episode. `generators`: one per row of the batch, owner of that episode's draws."""
        self.generators = generators
        self.observations: deque[dict[str, Tensor]] = deque(maxlen=self.config.n_obs_steps)
        self.actions: deque[Tensor] = deque()
        self.recent: deque[Tensor] = deque(maxlen=self.config.action_chunk_size)
        self.decision: Decision | None = None

    @torch.no_grad()
    def select_action(self, observation: dict[str, Tensor]) -> Tensor:
        """{name: (B, ...)} of one moment -> action (B, A). Decides anew when the queue of actions is empty."""
        missing = self.config.n_obs_steps - len(self.observations)
        self.observations.extend([observation] * max(missing, 1) if missing == self.config.n_obs_steps
                                 else [observation])
        if not self.actions:
            self.decision = self.act_once()
            self.actions.extend(self.plan(self.decision.actions))
        return self.actions.popleft()

    def act_once(self) -> Decision:
        """Decide from the queued observations."""
        window = {name: torch.stack([o[name] for o in self.observations], dim=1) for name in self.observations[0]}
        features = self.features(window)[:, self.config.n_obs_steps - 1]
        shape = (len(features), self.config.vqvae_n_layers)
        if self.generators is None:
            uniform = torch.rand(shape, device=features.device)
        else:
            uniform = torch.stack([torch.rand(shape[1], generator=g) for g in self.generators]).to(features.device)
        decision = self.decide(features, uniform)
        if self.config.use_relative_actions:
            here = self.observations[-1]["observation.state"]
            decision = decision._replace(actions=decision.actions + here.unsqueeze(1),
                                         decoded=decision.decoded + here.unsqueeze(1))
        return decision

    def plan(self, chunk: Tensor) -> list[Tensor]:
        """chunk (B, W, A) -> the actions to execute before the next decision, n_action_steps x (B, A)."""
        n = self.config.steps_per_decision
        if not self.config.average_chunks:
            return list(chunk[:, :n].unbind(1))
        self.recent.appendleft(chunk)
        return [torch.stack([old[:, i + age * n] for age, old in enumerate(self.recent)
                             if i + age * n < old.shape[1]]).mean(0) for i in range(n)]
