"""Step through a demonstration or a rollout: code probabilities at each step, and the effect of temperature."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vqbet_course.core.errors import BadInput
from vqbet_course.widgets.parts import BLUE, ORANGE, as_image, choice, draw_board, explorer, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure
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
    """Sampled chunks (DRAWS, W, 2) of a step in pixels; every temperature uses the same random numbers."""
    import torch

    network = mind.run.policy.network
    features = mind.features[step].expand(DRAWS, -1)
    uniform = torch.rand(DRAWS, network.config.vqvae_n_layers, generator=torch.Generator().manual_seed(0))
    seen = {name: values[step : step + 1] for name, values in mind.seen.items()}
    with torch.no_grad():
        decision = network.frame.to_absolute(network.decide(features, uniform, temperature), seen)
    return mind.run.normalizer.unnormalize("action", decision.actions)


def plot_decision(mind: Mind, step: int, temperature: float) -> "Figure":
    """The board at a step with chunks drawn at a temperature, the probabilities of the primary code beside it, and
    below the likeliest tokens of every step. Raises `BadInput` for a step that is not there."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    if not 0 <= step < len(mind.pusher) or temperature < 0:
        raise BadInput(
            f"step {step} at temperature {temperature:g}: choose a step from 0 to {len(mind.pusher) - 1}, "
            "and a temperature of at least 0"
        )
    figure = Figure(figsize=(9, 5.2))
    grid = figure.add_gridspec(2, 2, height_ratios=[5, 1], left=0.1, right=0.98, top=0.93, bottom=0.1, hspace=0.45)
    board, bars, strip = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, :])
    draw_board(board, mind.corners[step].numpy(), mind.pusher[step].numpy())
    board.add_collection(LineCollection(list(drawn_chunks(mind, step, temperature).numpy()), colors=ORANGE, alpha=0.5))
    board.set_title(f"step {step}, {DRAWS} chunks drawn")
    logits = mind.logits[step, 0]
    hot = (logits / max(temperature, 1e-6)).softmax(0)
    codes = range(len(logits))
    bars.vlines(codes, 0, logits.softmax(0), linewidth=9, color="0.75")
    bars.vlines(codes, 0, hot, linewidth=4, color=BLUE)
    bars.set(
        xlabel="primary code",
        ylabel="probability",
        ylim=(0, 1),
        yticks=(0, 0.5, 1),
        xticks=codes[:: max(1, len(codes) // 4)],
        title=f"believed (grey), at temperature {temperature:g} (blue)",
    )
    strip.imshow(mind.logits.argmax(-1).T, cmap="viridis", aspect="auto", interpolation="nearest")
    strip.axvline(step, color=ORANGE, linewidth=2)
    layers = range(mind.logits.shape[1])
    strip.set_yticks(layers, ["primary", "secondary", *(f"layer {g}" for g in layers[2:])][: len(layers)])
    strip.set_xticks(range(0, len(mind.pusher), max(1, len(mind.pusher) // 4)))
    strip.set_xlabel("step; a colour is a code, the likeliest one")
    return figure


def decision_explorer(mind: Mind, step: int = 0, temperature: float = 0.1) -> "VBox":
    """Sliders over the steps and over temperature, a button that plays; below, `plot_decision`."""
    import ipywidgets

    def draw(step: int, temperature: float) -> str:
        return as_image(plot_decision(mind, step, temperature), "The board, probabilities of codes, the token strip")

    steps = slider("step", len(mind.pusher) - 1, step)
    temperatures = choice("temperature", sorted({0.0, 0.1, 0.3, 1.0, 3.0, temperature}), temperature)
    play = ipywidgets.Play(value=step, min=0, max=len(mind.pusher) - 1, step=2, interval=200, description="play")
    ipywidgets.jslink((play, "value"), (steps, "value"))
    ahead = {"temperature": [0.1, 1.0]}
    box = explorer(draw, ahead, step=steps, temperature=temperatures)
    box.children = (play, *box.children)
    return box
