"""k-means, step by step, on points in the plane; a code can be put elsewhere."""

from typing import TYPE_CHECKING

from vqbet_course.core.palette import CODE, DEMO, FAILURE
from vqbet_course.widgets.parts import as_image, clickable, explorer, on_image, played, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure
    from torch import Tensor

STEPS = 20
SHOWN = 600  # points that are drawn


def kmeans_steps(points: "Tensor", codes: "Tensor", n: int = STEPS) -> "list[Tensor]":
    """The codes (K, 2) before the first and after each of n steps of k-means; a code that no point chooses keeps its
    place."""
    import torch

    from vqbet_course.tokens import nearest_code

    stages = [codes]
    for _ in range(n):
        tokens = nearest_code(points, stages[-1])
        counts = torch.bincount(tokens, minlength=len(codes))[:, None]
        sums = torch.zeros_like(codes).index_add_(0, tokens, points)
        stages.append(torch.where(counts > 0, sums / counts.clamp(min=1), stages[-1]))
    return stages


def plot_kmeans(points: "Tensor", stages: "list[Tensor]", step: int) -> "Figure":
    """Points (N, 2), the codes after a step of k-means with the way that they came, and the error of all steps."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    from vqbet_course.tokens import nearest_code, squared_distances

    figure = Figure(figsize=(9, 4))
    plane, curve = figure.subplots(1, 2, width_ratios=[1.1, 1])
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.14, top=0.9, wspace=0.25)
    some = points[:: max(1, len(points) // SHOWN)]
    tokens, codes = nearest_code(some, stages[step]), stages[step]
    arms = [[tuple(point), tuple(code)] for point, code in zip(some.tolist(), codes[tokens].tolist(), strict=True)]
    plane.add_collection(LineCollection(arms, colors="0.85", linewidths=0.5, zorder=0))
    plane.plot(*some.T, ".", color=DEMO, markersize=2)
    ways = [[tuple(stage[code].tolist()) for stage in stages[: step + 1]] for code in range(len(codes))]
    plane.add_collection(LineCollection(ways, colors=FAILURE, linewidths=1))
    plane.plot(*codes.T, "o", color=CODE, markeredgecolor="black")
    reach = 1.1 * points.abs().max().item()
    plane.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal", xlabel="x from the pusher (px)")
    plane.set(ylabel="y from the pusher (px), down", title=f"{len(codes)} codes after {step} steps")
    errors = [squared_distances(some, stage).min(1).values.mean().item() for stage in stages]
    curve.plot(errors, ".-", color=CODE)
    curve.plot(step, errors[step], "o", color=FAILURE)
    curve.set(xlabel="step", ylabel="mean squared error (px²)", ylim=(0, None), title=f"error {errors[step]:.1f} px²")
    plane.set(xticks=(-50, 0, 50), yticks=(-50, 0, 50))
    curve.set(xticks=(0, STEPS // 2, STEPS))
    curve.locator_params(axis="y", nbins=3)
    return figure


def kmeans_explorer(points: "Tensor", codes: "Tensor") -> "VBox":
    """A slider over the steps of k-means on points (N, 2) from codes (K, 2), and a button that plays; below,
    `plot_kmeans`. A click puts the nearest code there, and k-means begins anew from these codes."""
    stages = kmeans_steps(points, codes)
    step = slider("step of k-means", STEPS)

    def draw(step: int) -> str:
        return as_image(
            plot_kmeans(points, stages, step), f"Points and {len(codes)} codes after {step} steps of k-means"
        )

    box = explorer(draw, step=step)
    plane = plot_kmeans(points, stages, 0).axes[0]
    image = box.children[-1]

    def choose(x: float, y: float) -> None:
        spot = codes.new_tensor(on_image(plane, x, y))
        begin = stages[step.value].clone()
        begin[int((begin - spot).norm(dim=1).argmin())] = spot
        stages[:] = kmeans_steps(points, begin)
        if step.value:
            step.value = 0
        else:
            image.value = draw(0)

    return played(clickable(box, choose, "The codes: click to put the nearest code there"), step, interval=500)
