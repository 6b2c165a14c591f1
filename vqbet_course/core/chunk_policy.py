"""What policies without codes share: they decide chunks from a window of observations, and act them out.

A subclass has a network, `decide` and `loss`; observations and actions wait in queues here, as in `VQBeTPolicy`.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.frames import AbsoluteFrame, Decision, StateFrame


def stack_steps(steps: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A window {name: (B, T, size)} of T observations {name: (B, size)}."""
    return {name: torch.stack([step[name] for step in steps], 1) for name in steps[0]}


def without_codes(chunk: Tensor) -> Decision:
    """A chunk (B, W, A) as the Decision of a policy that has no codes."""
    nothing = chunk.new_zeros(len(chunk), 0)
    return Decision(chunk, nothing.long(), nothing, chunk, torch.zeros_like(chunk))


class ChunkPolicy(nn.Module):
    """What the baselines share: it sees and decides in a frame, and acts out chunks. Args: config; frame, by default that
    of absolute or relative actions, as the config says. All numbers are normalised."""

    def __init__(self, config: VQBeTConfig, frame: AbsoluteFrame | None = None):
        super().__init__()
        self.config = config
        self.frame = frame or (StateFrame() if config.use_relative_actions else AbsoluteFrame())
        self.reset()

    def reset(self, generators: Sequence[torch.Generator] | None = None) -> None:
        """Forget the episode. `generators`: one per row of the batch, for that episode's draws."""
        self.generators, self.decision = generators, cast(Decision | None, None)
        self.observations: deque[dict[str, Tensor]] = deque(maxlen=self.config.n_obs_steps)
        self.actions: deque[Tensor] = deque()

    @torch.no_grad()
    def select_action(self, observation: dict[str, Tensor]) -> Tensor:
        """Action (B, A) for {name: (B, size)} of now. Decides when none is queued."""
        self.observations.extend([observation] * (1 if self.observations else self.config.n_obs_steps))
        if not self.actions:
            self.decision = self.act_once().cpu()
            self.actions.extend(self.decision.actions[:, : self.config.steps_per_decision].unbind(1))
        return self.actions.popleft()

    def act_once(self) -> Decision:
        """Decide from the queued observations."""
        device = next(self.parameters()).device
        window = {k: v.to(device) for k, v in stack_steps(self.observations).items()}
        return self.frame.to_absolute(self.decide(self.frame.observe(window)), window)

    @abstractmethod
    def decide(self, window: dict[str, Tensor]) -> Decision:
        """A Decision for each row of {name: (B, T, size)}, both in the frame."""

    @abstractmethod
    def loss(self, window: dict[str, Tensor], chunks: Tensor) -> Tensor:
        """Loss () for {name: (B, T, size)}, true chunks (B, T, W, A) of its steps."""

    def learn_scales(self, chunks: Tensor) -> None:
        """Compute what scales or bins actions from all chunks (M, W, A)."""
