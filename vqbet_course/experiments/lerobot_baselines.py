"""LeRobot's own ACT and Diffusion Policy on the panel: its networks and losses, with the interface of other baselines.

LeRobot scales actions by mean and deviation for ACT and to -1..1 for Diffusion; so do these, on the chunks.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from vqbet_course.core.chunk_policy import ChunkPolicy, without_codes
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.core.frames import AbsoluteFrame, Decision

SMALL_ACT: dict[str, Any] = {
    "dim_model": 96,
    "n_heads": 4,
    "dim_feedforward": 384,
    "n_encoder_layers": 2,
    "n_decoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 16,
}
"""What the panel changes in LeRobot's ACT, so that a CPU trains it in minutes."""

SMALL_DIFFUSION: dict[str, Any] = {
    "down_dims": (32, 64, 128),
    "kernel_size": 3,
    "diffusion_step_embed_dim": 64,
    "num_train_timesteps": 100,
}
"""What the panel changes in LeRobot's Diffusion Policy."""

NEVER_MOVED = 1e-6
"""A deviation or half range of an action below this, in normalised units, is that of a number that does not change."""

STATE, ENVIRONMENT = "observation.state", "observation.environment_state"


class LeRobotBaseline(ChunkPolicy):
    """A policy of LeRobot's inside, and how its chunks are scaled: chunk = network's chunk * scale + middle."""

    def __init__(self, config: VQBeTConfig, frame: AbsoluteFrame | None = None):
        super().__init__(config, frame)
        self.register_buffer("middle", torch.zeros(config.action_dim))
        self.register_buffer("scale", torch.ones(config.action_dim))
        self.middle: Tensor
        self.scale: Tensor


class ACT(LeRobotBaseline):
    """Action Chunking Transformer (Zhao et al. 2023), on keypoints instead of cameras, from the newest step.

    Args: config; frame; changes, other values for fields of LeRobot's ACTConfig."""

    def __init__(self, config: VQBeTConfig, frame: AbsoluteFrame | None = None, **changes: Any):
        from lerobot.policies.act.configuration_act import ACTConfig
        from lerobot.policies.act.modeling_act import ACTPolicy

        super().__init__(config, frame)
        self.policy = ACTPolicy(
            ACTConfig(
                **features(config),
                chunk_size=config.action_chunk_size,
                n_action_steps=config.steps_per_decision,
                pretrained_backbone_weights=None,
                **SMALL_ACT | changes,
            )
        )

    def learn_scales(self, chunks: Tensor) -> None:
        """Mean and deviation of the actions, which LeRobot uses for ACT."""
        actions = chunks.flatten(0, 1)
        self.middle, self.scale = actions.mean(0), usable(actions.std(0))

    def decide(self, window: dict[str, Tensor]) -> Decision:
        """The chunk that ACT decides from the newest observation."""
        newest = {name: values[:, -1] for name, values in lerobot_window(window).items()}
        chunk = self.policy.predict_action_chunk(newest)
        return without_codes(chunk * self.scale + self.middle)

    def loss(self, window: dict[str, Tensor], chunks: Tensor) -> Tensor:
        """ACT's own loss: L1 of the chunk and the KL divergence of its latent variable."""
        batch = {name: values[:, -1] for name, values in lerobot_window(window).items()}
        return self.policy.forward(batch | target((chunks[:, -1] - self.middle) / self.scale))[0]


class Diffusion(LeRobotBaseline):
    """Diffusion Policy (Chi et al. 2023), the convolutional one. Its horizon begins at the first observation.

    `sampler`: DDPM (as many steps as in training) or DDIM; `n_steps` of it. Args: config; frame; changes, other values
    for fields of LeRobot's DiffusionConfig."""

    def __init__(self, config: VQBeTConfig, frame: AbsoluteFrame | None = None, **changes: Any):
        from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
        from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy

        super().__init__(config, frame)
        self.policy = DiffusionPolicy(
            DiffusionConfig(
                **features(config),
                n_obs_steps=config.n_obs_steps,
                horizon=config.action_chunk_size,
                n_action_steps=config.steps_per_decision,
                pretrained_backbone_weights=None,
                **SMALL_DIFFUSION | changes,
            )
        )
        self.sample_with("DDIM", 10)

    def learn_scales(self, chunks: Tensor) -> None:
        """The bounds of the actions, which LeRobot sends to -1..1 for Diffusion."""
        actions = chunks.flatten(0, 1)
        low, high = actions.amin(0), actions.amax(0)
        self.middle, self.scale = (high + low) / 2, usable((high - low) / 2)

    def sample_with(self, sampler: str, n_steps: int) -> None:
        """Choose DDPM or DDIM, and how many denoising steps a decision takes."""
        from diffusers import DDIMScheduler, DDPMScheduler

        model, kind = self.policy.diffusion, {"DDPM": DDPMScheduler, "DDIM": DDIMScheduler}[sampler]
        model.noise_scheduler = kind.from_config(model.noise_scheduler.config)
        model.num_inference_steps = n_steps

    def decide(self, window: dict[str, Tensor]) -> Decision:
        """A chunk denoised from noise that each row draws from its own generator."""
        model, own = self.policy.diffusion, self.generators
        condition = model._prepare_global_conditioning(lerobot_window(window))
        size = (self.config.action_chunk_size, self.config.action_dim)
        noise = None if own is None else torch.stack([torch.randn(size, generator=g) for g in own]).to(self.scale)
        sample = model.conditional_sample(len(condition), condition, list(own) if own is not None else None, noise)
        chunk = sample * self.scale + self.middle
        if self.config.use_relative_actions:  # relative to the first observation; others to the last
            chunk = chunk + (window[STATE][:, :1] - window[STATE][:, -1:])
        return without_codes(chunk[:, self.config.n_obs_steps - 1 :])

    def loss(self, window: dict[str, Tensor], chunks: Tensor) -> Tensor:
        """Diffusion's own loss: the squared error of the predicted noise."""
        return self.policy.forward(lerobot_window(window) | target((chunks[:, 0] - self.middle) / self.scale))[0]


def usable(scale: Tensor) -> Tensor:
    """Scales (A,) to divide by: 1 for a number that does not change."""
    return torch.where(scale > NEVER_MOVED, scale, 1.0)


def horizon_of(chunk_size: int) -> int:
    """The shortest horizon of at least so many actions that Diffusion's U-Net can halve as often as it does."""
    factor = 2 ** len(SMALL_DIFFUSION["down_dims"])
    return -(-chunk_size // factor) * factor


def check_observed(names: Collection[str]) -> None:
    """Raise BadInput unless LeRobot's baselines can observe these features, and no other is left out."""
    others = [name for name in names if name not in (STATE, ENVIRONMENT)]
    if STATE not in names or others:
        wrong = f"{', '.join(others)} would be left out" if others else f"there is no {STATE}"
        raise BadInput(f"act and diffusion observe {STATE}, and {ENVIRONMENT} where there is one; {wrong}")


def features(config: VQBeTConfig) -> dict:
    """Observations and action as LeRobot's features, on the CPU. Where only the robot's own state is observed,
    LeRobot gets it twice, because it requires an image or the state of the environment. Raises BadInput for others."""
    from lerobot.configs.types import FeatureType, PolicyFeature

    sizes = config.observation_sizes
    check_observed(sizes)
    kinds = {
        STATE: (FeatureType.STATE, sizes[STATE]),
        ENVIRONMENT: (FeatureType.ENV, sizes.get(ENVIRONMENT, sizes[STATE])),
    }
    return {
        "input_features": {name: PolicyFeature(kind, (size,)) for name, (kind, size) in kinds.items()},
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (config.action_dim,))},
        "device": "cpu",
    }


def lerobot_window(window: dict[str, Tensor]) -> dict[str, Tensor]:
    """A window with the fields that LeRobot expects; the robot's own state replaces a missing environment's."""
    return {STATE: window[STATE], ENVIRONMENT: window.get(ENVIRONMENT, window[STATE])}


def target(chunk: Tensor) -> dict[str, Tensor]:
    """LeRobot's batch fields for a target chunk (B, W, A) without padding."""
    return {"action": chunk, "action_is_pad": torch.zeros(chunk.shape[:2], dtype=torch.bool, device=chunk.device)}


def changed_defaults(policy: ACT | Diffusion) -> str:
    """What a baseline changes in LeRobot's configuration, as text: each field with its value, LeRobot's in brackets."""
    ours, used = policy.config, policy.policy.config
    known = {f.name: f.default for f in dataclasses.fields(used) if f.default is not dataclasses.MISSING}
    changed = [f"{key} {getattr(used, key)} ({was})" for key, was in known.items() if getattr(used, key) != was]
    learning = f"learning rate {ours.optimizer_lr:g} ({used.optimizer_lr:g}), batches of {ours.batch_size}"
    return ", ".join([*changed, learning])
