"""What a policy decides, and the coordinate frames in which it sees and decides (lesson 06)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor


class Decision(NamedTuple):
    """One decision: actions = decoded + offset, each (B, W, A); codes (B, G) drawn from logits (B, G, K)."""

    actions: Tensor
    codes: Tensor
    logits: Tensor
    decoded: Tensor
    offset: Tensor

    def cpu(self) -> "Decision":
        """The same decision on the CPU, where actions are executed."""
        return Decision(*(part.cpu() for part in self))

    def in_units(self, back: Callable[[Tensor], Tensor]) -> tuple[list[tuple[int, ...]], np.ndarray, np.ndarray]:
        """The tokens of each of B rows, and in the action's unit the chunks (B, W, A) that they decode to and the offsets.
        `back`: normalised actions -> in their unit."""
        decoded = back(self.decoded)
        offset = back(self.actions) - decoded
        return [tuple(codes) for codes in self.codes.tolist()], decoded.numpy(), offset.numpy()


class AbsoluteFrame:
    """The coordinate frame of absolute actions: nothing is changed. Another frame overrides what it changes."""

    def sizes(self, observation_sizes: dict[str, int]) -> dict[str, int]:
        """{name: numbers per step} of what the encoder sees."""
        return observation_sizes

    def observe(self, observation: dict[str, Tensor]) -> dict[str, Tensor]:
        """{name: (B, T, ...)} of the environment -> the same in this frame."""
        return observation

    def to_absolute(self, decision: Decision, observation: dict[str, Tensor]) -> Decision:
        """A decision in this frame -> absolute actions; `observation` {name: (B, T, ...)} ends now."""
        return decision


class StateFrame(AbsoluteFrame):
    """The frame of relative actions: chunks are relative to observation.state at the time of the decision."""

    def to_absolute(self, decision: Decision, observation: dict[str, Tensor]) -> Decision:
        """A relative decision plus the newest state."""
        state = observation["observation.state"][:, -1:]  # (B, 1, A)
        return decision._replace(actions=decision.actions + state, decoded=decision.decoded + state)
