"""How long does an explorer take to redraw? Each against a notebook cell that draws the same figure.

    python benchmarks/redraw.py

On the embedded demonstrations and the shipped policy, 200 redraws each, every one from scratch: what an explorer keeps
of earlier figures is left out. The baseline is a plain notebook cell with the same figure: a tight box, PNG as
matplotlib compresses it. They take turns. Times are those of one core, without its other work.
Writes results/redraw.json, and fails if an explorer takes more than the bar.
"""

import gc
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ipycanvas import Canvas, hold_canvas
from matplotlib.figure import Figure

from vqbet_course import widgets
from vqbet_course.core.records import made_by
from vqbet_course.demos import load_demos
from vqbet_course.evaluation.latency import percentiles
from vqbet_course.policy import token_sequence
from vqbet_course.residual_vq import ResidualVQ
from vqbet_course.rollout import rollouts
from vqbet_course.tasks import open_source
from vqbet_course.tokens import kmeans, nearest_code
from vqbet_course.training.runs import load_run
from vqbet_course.widgets.drive import draw_board_on
from vqbet_course.widgets.parts import DPI, young_figures

RESULT = Path(__file__).parent / "results" / "redraw.json"
BAR_MS = 100.0
Draw = Callable[[int], Any]


def explorers(seed: int) -> dict[str, tuple[Draw, Draw]]:
    """{name: (draws state i anew, makes the same figure)}."""
    torch.manual_seed(seed)
    run, demos = load_run("shipped"), load_demos(open_source("demo")).select(range(20))
    moves = widgets.moves_of(run, demos)
    K, W = len(moves.decoded), moves.chunks.shape[1]
    flat = moves.chunks.flatten(1)
    codebooks = [kmeans(flat, size, 5, torch.Generator().manual_seed(seed)) for size in (8, 16, 64)]
    tokens = [nearest_code(flat, codebook) for codebook in codebooks]
    stack = ResidualVQ(3, K, flat.shape[1])
    stack(flat)
    seen = {name: torch.from_numpy(values) for name, values in demos.select([3]).observation.items()}
    flown = widgets.fly(widgets.Drive(load_run("shipped"), seed), 60)
    window = {name: run.normalizer.normalize(name, values)[10:12][None] for name, values in seen.items()}
    with torch.no_grad():
        network = run.policy.eval().network
        row = token_sequence(network.encode(window), network.action_query, 0)[0][0]
    weights = widgets.attention_weights(network.gpt, row)
    names = [f"token {t}" for t in range(len(row))]
    stages = widgets.kmeans_steps(flat[:, :2], flat[:16, :2])
    snippets, steps = widgets.snippets_of(run, demos), widgets.steps_of(rollouts(run.policy, run.normalizer, [seed])[0])
    episodes = {str(i): steps for i in range(4)}
    one = widgets.Moment("policy", 1, moves.decoded.numpy(), moves.counts.numpy(), steps, 0.5, 5.0)
    moments = [replace(one, step=step, success=step / 10) for step in range(10)]
    drive, canvas = widgets.Drive(run, seed), Canvas(width=384, height=384)

    def figures(i: int) -> dict[str, Callable[[], Figure]]:
        return {
            "token usage": lambda: widgets.plot_token_usage(codebooks[i % 3].view(-1, W, 2), tokens[i % 3]),
            "code pairs": lambda: widgets.plot_pair_usage(moves.codes[: 100 + i], K),
            "token to motion": lambda: widgets.plot_move(moves, i % K, i // K % K),
            "cockpit": lambda: widgets.plot_panel(widgets.think(flown, i % len(flown.steps), (0.1, 1.0)[i % 2])),
            "residual layers": lambda: widgets.plot_layers(stack, flat[i], lambda chunk: chunk.view(W, 2), 1 + i % 3),
            "attention": lambda: widgets.plot_attention(weights, names, i % len(weights), i % weights.shape[1]),
            "drive": lambda: widgets.plot_drive(drive),
            "k-means": lambda: widgets.plot_kmeans(flat[:, :2], stages, i % len(stages)),
            "token to demonstrations": lambda: widgets.plot_snippets(snippets, snippets.pairs[i % 40], i % (W + 1)),
            "side by side": lambda: widgets.plot_side_by_side(episodes, i % 60),
            "watch it learn": lambda: widgets.plot_learning(moments, i % len(moments)),
        }

    def step(i: int) -> None:
        drive.step()
        with hold_canvas():
            draw_board_on(canvas, drive.scene)

    def pair(name: str) -> tuple[Draw, Draw]:
        def ours(i: int) -> None:
            with young_figures():  # as every explorer does
                widgets.as_image(figures(i)[name](), name)

        return ours, lambda i: figures(i)[name]()

    drawn = {name: pair(name) for name in figures(0)}
    return drawn | {"drive": (step, drawn["drive"][1])}


def as_a_cell(figure: Figure) -> None:
    """What a notebook does to show a figure."""
    figure.savefig(io.BytesIO(), format="png", dpi=DPI, bbox_inches="tight")


def milliseconds(draw: Callable[[], Any]) -> float:
    start = time.process_time()
    draw()
    return 1000 * (time.process_time() - start)


@click.command()
@click.option("--redraws", default=200, show_default=True, help="Of each explorer.")
@click.option("--baselines", default=20, show_default=True, help="How many of them the baseline draws too.")
@click.option("--seed", default=0, show_default=True)
def main(redraws: int, baselines: int, seed: int) -> None:
    torch.set_num_threads(1)
    result: dict = {
        "command": " ".join(["python", *sys.argv]),
        "seed": seed,
        "bar_ms": BAR_MS,
        "redraws": redraws,
        "made_by": made_by() | {name: version(name) for name in ("matplotlib", "ipywidgets", "ipycanvas")},
        "explorers": {},
    }
    for name, (draw, figure) in explorers(seed).items():
        draw(0)
        as_a_cell(figure(0))
        ours, theirs = [], []
        for i in range(redraws):
            ours.append(milliseconds(lambda: draw(i)))
            if i % max(1, redraws // baselines) == 0:
                theirs.append(milliseconds(lambda: as_a_cell(figure(i))))
        gc.collect()
        ratios = np.median(theirs) / np.median(ours)
        result["explorers"][name] = found = {
            "redraw_ms": percentiles(np.array(ours)),
            "baseline_ms": percentiles(np.array(theirs)),
            "times_faster_than_baseline": float(ratios),
            "figures_left": sum(type(thing) is Figure for thing in gc.get_objects()),
        }
        print(
            f"{name}: {found['redraw_ms']['p50']:.1f} ms (p50), {found['redraw_ms']['p95']:.1f} ms (p95); a notebook "
            f"cell {found['baseline_ms']['p50']:.1f} ms, {ratios:.1f} times as long; "
            f"{found['figures_left']} figures left"
        )
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    slow = [name for name, found in result["explorers"].items() if found["redraw_ms"]["p95"] > BAR_MS]
    if slow:
        raise click.ClickException(f"slower than {BAR_MS:g} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
