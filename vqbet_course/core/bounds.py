"""The lowest and the highest value of every number of a dataset, which normalisation maps to -1..1."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


def span_of(low: Tensor, high: Tensor) -> Tensor:
    """highest minus lowest, (size,); 1 for a number that hardly ever changes, because dividing by its span would turn a
    move of 0.001 into thousands."""
    span = high - low
    still = span <= 1e-5 * torch.maximum(low.abs(), high.abs()).clamp(min=0.01)
    return torch.where(still, torch.ones_like(span), span)


@dataclass(frozen=True)
class Bounds:
    """Bounds of features: {name: (lowest (size,), highest (size,))}, in the source's units."""

    bounds: dict[str, tuple[Tensor, Tensor]]

    def unit(self, name: str) -> float:
        """How much of the source's unit one normalised unit is, on average over the numbers of `name`."""
        low, high = self.bounds[name]
        return ((high - low) / 2).mean().item()

    def to_dict(self) -> dict[str, Any]:
        """The bounds as a JSON object."""
        return {k: {"min": low.tolist(), "max": high.tolist()} for k, (low, high) in self.bounds.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The way back of `to_dict`."""
        return cls({k: (torch.tensor(v["min"]), torch.tensor(v["max"])) for k, v in values.items()})
