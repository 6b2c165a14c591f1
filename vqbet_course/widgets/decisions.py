"""What a policy considers at the steps of an episode: its features, the logits of its codes, and the chunks it may draw."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vqbet_course.core.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from vqbet_course.training.runs import Run

DRAWS = 24  # chunks drawn for the figure


@dataclass(frozen=True)
class Mind:
    """A policy's features and logits at T steps of an episode: keypoints (T, 8, 2) and pusher (T, 2) in pixels; of each
    step what the policy sees, {name: (T, n_obs_steps, size)}, normalised, its features (T, D) and the logits (T, G, K)
    of its codes."""

    run: "Run"
    corners: "Tensor"
    pusher: "Tensor"
    seen: dict[str, "Tensor"]
    features: "Tensor"
    logits: "Tensor"


def mind_of(run: "Run", seen: dict[str, "Tensor"]) -> Mind:
    """Show a run of PushT an episode {name: (T, size)}, in pixels. Raises `BadInput` for other observations."""
    import torch

    corners, pusher = (seen.get(name) for name in ("observation.environment_state", "observation.state"))
    if corners is None or pusher is None:
        raise BadInput("only PushT's keypoints are drawn: give observation.environment_state and observation.state")
    network, T = run.policy.eval().network, len(pusher)
    rows = (torch.arange(T)[:, None] + torch.arange(1 - network.config.n_obs_steps, 1)).clamp(min=0)
    with torch.no_grad():
        windows = {name: run.normalizer.normalize(name, values)[rows] for name, values in seen.items()}
        features = network.features(windows)[:, network.config.n_obs_steps - 1]
        logits, _ = network.code_predictor(features, torch.full((T, network.config.vqvae_n_layers), 0.5), 0.0)
    return Mind(run, corners.view(T, 8, 2), pusher, windows, features, logits)


def drawn_chunks(mind: Mind, step: int, temperature: float) -> "Tensor":
    """Sampled chunks (DRAWS, W, 2) of a step in pixels. Every temperature uses the same random numbers, evenly spread over
    0..1 in each layer, so that a few draws show the probabilities."""
    import torch

    network = mind.run.policy.network
    features = mind.features[step].expand(DRAWS, -1)
    g = torch.Generator().manual_seed(0)
    shuffled = [torch.randperm(DRAWS, generator=g) for _ in range(network.config.vqvae_n_layers)]
    uniform = (torch.stack(shuffled, dim=1) + 0.5) / DRAWS
    seen = {name: values[step : step + 1] for name, values in mind.seen.items()}
    with torch.no_grad():
        decision = network.frame.to_absolute(network.decide(features, uniform, temperature), seen)
    return mind.run.normalizer.unnormalize("action", decision.actions)
