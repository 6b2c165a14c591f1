"""Our policy in LeRobot's clothes: both stages in LeRobot's one training loop, and its way of acting."""

import copy
from typing import Any

import numpy as np
import torch
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from vqbet_course.datasets.choice import resized_frame
from vqbet_course.lerobot_policy.configuration_vqbet_course import VQBeTCourseConfig
from vqbet_course.lerobot_policy.processor_vqbet_course import fitted_stats
from vqbet_course.policy import VQBeT, VQBeTPolicy
from vqbet_course.train import ema_update
from vqbet_course.training.factory import build_network, start_network
from vqbet_course.vqvae import vqvae_loss

Batch = dict[str, Tensor]


class VQBeTCoursePolicy(PreTrainedPolicy):
    """`learning` takes the gradients, `average` follows it and acts; `steps` counts updates over both stages.

    LeRobot counts its own VQ-BeT's first stage in a Python number that a resumed run has forgotten; here it is
    a buffer, so that a resumed run goes on where it was.
    """

    config_class = VQBeTCourseConfig
    name = "vqbet_course"
    steps: Tensor

    def __init__(self, config: VQBeTCourseConfig, dataset_meta: LeRobotDatasetMetadata | None = None, **_: Any):
        if dataset_meta is not None and not config.pretrained_path:
            config.fit_to(dataset_meta)
        elif dataset_meta is not None and dataset_meta.stats:
            # LeRobot's trainer is about to give these statistics to the processors of the checkpoint
            dataset_meta.stats = fitted_stats(config, dataset_meta.stats)
        super().__init__(config)
        start = build_network if config.pretrained_path else start_network
        self.learning = start(config.course_config())
        self.average = copy.deepcopy(self.learning).requires_grad_(False) if config.ema_decay else None
        self.register_buffer("steps", torch.tensor(0))
        self.acting = VQBeTPolicy(self.acting_network)

    @property
    def acting_network(self) -> VQBeT:
        """The network that acts: the moving average where there is one."""
        return self.learning if self.average is None else self.average

    @property
    def policy_steps(self) -> int:
        """Updates since the tokenizer was finished; negative before that."""
        return int(self.steps) - self.config.n_vqvae_training_steps

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Tokenizer and policy, each with its own rate and its weight decay on matrices only."""
        c, vqvae = self.config, self.learning.vqvae
        stages = [
            (
                [p for p in self.learning.parameters() if not any(p is q for q in vqvae.parameters())],
                c.optimizer_lr,
                c.optimizer_weight_decay,
            ),
            (list(vqvae.parameters()), c.optimizer_vqvae_lr, c.optimizer_vqvae_weight_decay),
        ]
        return [
            {
                "params": [p for p in parameters if (p.ndim >= 2) == matrices],
                "lr": lr,
                "weight_decay": decay if matrices else 0.0,
            }
            for parameters, lr, decay in stages
            for matrices in (True, False)
        ]

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss of the stage that training is in. batch {name: (B, T, ...), "action": (B, Q + W - 1, A)}."""
        chunks = self.chunks(batch)  # (B, Q, W, A)
        if self.policy_steps < 0:
            draws = torch.Generator().manual_seed(int(self.steps))  # a resumed run draws as one that was not stopped
            out = self.learning.vqvae(chunks.flatten(0, 1), draws)
            return vqvae_loss(out), {
                "reconstruction": out.recon_loss.item(),
                "code_pairs": len(torch.unique(out.codes, dim=0)),
            }
        vqvae = self.learning.vqvae.eval()
        codes = vqvae.encode(chunks.flatten(0, 1)).unflatten(0, chunks.shape[:2])
        window = {name: batch[name][:, : self.config.n_obs_steps] for name in self.config.input_features}
        loss, parts = self.learning.loss(window, chunks, codes)
        return loss, {name: value.item() for name, value in parts.items()}

    def chunks(self, batch: Batch) -> Tensor:
        """The chunk of every query, (B, Q, W, A)."""
        chunks = batch["action"].unfold(1, self.config.action_chunk_size, 1).transpose(2, 3)
        if self.config.relative_chunks:
            chunks = chunks - batch["observation.state"].unsqueeze(2)
        return chunks

    @torch.no_grad()
    def update(self) -> None:
        """LeRobot calls this after every step of its optimizer."""
        if self.average is not None:
            decay = self.config.ema_decay if self.policy_steps >= 0 else 0.0
            ema_update(self.average, self.learning, max(0, self.policy_steps), decay)
        self.steps += 1

    def reset(self) -> None:
        """Forget the episode. LeRobot owns the draws: they come from torch's generator, which it seeds."""
        self.acting.reset()

    def observed(self, batch: Batch) -> Batch:
        """What the network observes of a batch, images in the size that it was trained on."""
        seen = {name: batch[name] for name in self.config.input_features}
        return seen | {name: resized_to_fit(seen[name], *f.shape[1:]) for name, f in self.config.image_features.items()}

    def select_action(self, batch: Batch, **_: Any) -> Tensor:
        """Normalised observations {name: (B, ...)} -> normalised action (B, A)."""
        return self.acting.select_action(self.observed(batch))

    @torch.no_grad()
    def predict_action_chunk(self, batch: Batch, **_: Any) -> Tensor:
        """The whole chunk (B, W, A) that would be decided if `batch` {name: (B, ...)} were observed next.

        No queue changes: what `select_action` does afterwards does not depend on it, but for the draw."""
        self.acting.encode_new()
        ahead = VQBeTPolicy(self.acting.network, self.acting.acting)
        ahead.tokens.extend(self.acting.tokens)
        ahead.select_action(self.observed(batch))
        assert ahead.decision is not None
        return ahead.decision.actions


def resized_to_fit(images: Tensor, height: int, width: int) -> Tensor:
    """Images (B, 3, H, W), 0..1, resized as `vqbet-course demos convert --resize` does, where they have another size."""
    if images.shape[-2:] == (height, width):
        return images
    frames = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    small = torch.from_numpy(np.stack([resized_frame(frame, height, width) for frame in frames]))
    return small.to(images).permute(0, 3, 1, 2) / 255


def wrap(policy: VQBeTPolicy, config: VQBeTCourseConfig) -> VQBeTCoursePolicy:
    """A trained policy in LeRobot's clothes, its first stage over."""
    theirs = VQBeTCoursePolicy(config)
    for module in {theirs.learning, theirs.acting_network}:
        module.load_state_dict(policy.network.state_dict())
    theirs.steps.fill_(config.n_vqvae_training_steps)
    return theirs.eval()
