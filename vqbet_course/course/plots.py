"""What the lessons draw with: one palette, one way to draw the board, figures that can be read on a phone.

Every figure begins with `panels`, which sets fonts and resolution. Positions are in pixels with y downwards, as on
the screen. A colour has one meaning in all lessons; what comes in an order (training steps, layers, numbers of
codes) is drawn in `shades`.
"""
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEMO = "#0072B2"
"""Blue: what was demonstrated, and the pusher."""

CODE = "#E69F00"
"""Orange: a code, and what tokens decode to."""

OFFSET = "#CC79A7"
"""Purple: what is added to a code: the secondary code, a residual, an offset."""

POLICY = "#56B4E9"
"""Light blue: what a model predicts or a policy does."""

GOAL = "#009E73"
"""Green: the goal, success."""

FAILURE = "#D55E00"
"""Red: a failure, an error, a dead code."""

OTHER = "#777777"
"""Grey: the baseline, the context, what is compared with."""

WIDTH = 6.4
"""Width of a figure in inches: text of 11 points is then about 9 pixels high on a screen of 390 pixels."""

STYLE = {"figure.dpi": 120, "font.size": 11, "axes.titlesize": 11, "axes.labelsize": 11, "legend.fontsize": 10,
         "xtick.labelsize": 10, "ytick.labelsize": 10, "axes.spines.top": False, "axes.spines.right": False,
         "lines.linewidth": 2, "legend.frameon": False}

MARKERS, DASHES = "osD^vP", ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


def panels(rows: int = 1, columns: int = 1, height: float = 2.8, width: float = WIDTH, **more: Any) -> "tuple[Figure, Any]":
    """A figure of the lessons' size and fonts with (rows, columns) axes, as `plt.subplots` returns it; inches."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **more)


def show() -> None:
    """Show the figure."""
    import matplotlib.pyplot as plt

    plt.show()


# --- lesson 06: the policy ------------------------------------------------------------------------------------------


def query_timeline(T: int, future: int, W: int) -> None:
    """T observation steps, `future` more queries, and the chunk of W actions of each, over a common time axis."""
    figure, ax = panels(height=3.6)
    for i in range(T + future):
        now, x = i == T - 1, i - T + 1
        boxes = [(x - 0.26, "obs", DEMO)] * (i < T) + [(x + (0.22 if i < T else 0), "query", CODE)]
        for at, word, colour in boxes:
            ax.text(at, 0, word, ha="center", va="center", fontsize=8, color="white",
                    bbox={"boxstyle": "round", "fc": colour, "ec": "none"})
        ax.barh(2 + 0.5 * i, W, left=x - 0.5, height=0.4, color=GOAL if now else "0.85", ec="white")
        ax.text(x + W - 0.35, 2 + 0.5 * i, "executed" if now else "only trains", va="center", fontsize=9)
        ax.annotate("", (boxes[-1][0], 2 + 0.5 * i), (boxes[-1][0], 0.3), arrowprops={"arrowstyle": "->"})
    ax.axhspan(0.7, 1.3, color="0.93")
    ax.text(0.6 - T, 1, "GPT", va="center", weight="bold")
    ax.set(xticks=range(1 - T, W + 1), yticks=[], xlabel="frames from now", xlim=(0.3 - T, W + future + 1.5))
    show()


def influence(matrix: Any, rows: Sequence[str], columns: Sequence[str]) -> None:
    """How far each answer (a row) moves when one observation (a column) is changed, as a heat map."""
    figure, ax = panels(height=3.0)
    image = ax.imshow(matrix, cmap="cividis", vmin=0, aspect="auto")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(xlabel="this observation is changed", ylabel="this answer moves")
    figure.colorbar(image, label="by at most")
    show()


def chunks_by_kind(chunks: Mapping[str, Any]) -> None:
    """{kind: chunks (n, W, 2) in pixels}, a panel for each kind."""
    figure, axes = panels(1, len(chunks), height=3.2)
    for ax, (kind, paths) in zip(axes, chunks.items(), strict=True):
        ax.plot(*np.asarray(paths).transpose(2, 1, 0), color=DEMO, lw=1, alpha=0.6)
        ax.set(title=kind, aspect="equal", xlabel="x (px)")
        ax.invert_yaxis()
    axes[0].set_ylabel("y (px)")
    show()


def walks(paths: Mapping[str, Any], obstacle: float) -> None:
    """{way of acting: positions (n, steps)}, a panel for each; the obstacle lies within `obstacle` of 0."""
    figure, axes = panels(1, len(paths), height=2.8, sharey=True)
    for ax, (way, walked) in zip(axes, paths.items(), strict=True):
        ax.axhspan(-obstacle, obstacle, color="0.9")
        ax.plot(np.asarray(walked).T, color=POLICY, lw=0.8, alpha=0.6)
        ax.set(title=way, xlabel="step")
    axes[0].set_ylabel("left (-) or right (+)")
    show()


# --- lesson 08: training --------------------------------------------------------------------------------------------


def two_stages() -> None:
    """What learns and what is frozen in the two stages of training, as a diagram."""
    stages = {"Stage 1": (["chunk", "encoder", "codes", "decoder", "chunk"], (1, 2, 3), ()),
              "Stage 2": (["observations", "GPT, heads", "codes", "decoder", "chunk + offset"], (1,), (2, 3))}
    figure, ax = panels(height=2.0)
    for y, (stage, (boxes, learns, frozen)) in enumerate(stages.items()):
        ax.text(-1.1, -y, stage, va="center", weight="bold")
        for x, text in enumerate(boxes):
            colour = "#F5C77E" if x in learns else "#CFE3F1" if x in frozen else "white"
            ax.text(x, -y, text, ha="center", va="center", fontsize=8,
                    bbox={"boxstyle": "round,pad=0.4", "fc": colour, "ec": "0.5"})
            if x:
                ax.annotate("", (x - 0.36, -y), (x - 0.64, -y), arrowprops={"arrowstyle": "->", "color": "0.3"})
    ax.text(2, -1.75, "orange: learns      blue: frozen", ha="center")
    ax.set(xlim=(-1.2, 4.6), ylim=(-2, 0.5))
    ax.axis("off")
    show()


def pushes(scenes: Mapping[str, tuple[Any, Any]], goal: Any) -> None:
    """{title: (outlines of the T (2, P, 2) at the start and at the end, the pusher's path (N, 2))}, a panel for each,
    with the outline of the goal (P, 2); all in pixels."""
    figure, axes = panels(1, len(scenes), height=3.2)
    for ax, (title, (outlines, path)) in zip(axes, scenes.items(), strict=True):
        for outline, alpha in zip(outlines, (0.25, 0.8), strict=True):
            ax.fill(*np.asarray(outline).T, color=OTHER, alpha=alpha)
        ax.plot(*np.vstack([goal, goal[:1]]).T, color=GOAL, lw=4, alpha=0.6)
        ax.plot(*np.asarray(path).T, "-", color=DEMO)
        ax.plot(*path[-1], "o", color=DEMO)
        ax.set(xlim=(0, 512), ylim=(512, 0), aspect="equal", title=title, xticks=[], yticks=[])
    show()


def weight_and_average(walk: Any) -> None:
    """walk (steps, 2): a weight that is trained, and its moving average."""
    figure, ax = panels(height=2.4)
    ax.plot([w for w, _ in walk], color=POLICY, linewidth=0.8, label="the weight that is trained")
    ax.plot([w for _, w in walk], color=FAILURE, label="its moving average, which acts")
    ax.set(xlabel="step", ylabel="weight")
    ax.legend()
    show()


def training_log(log: Sequence[Mapping[str, Any]]) -> None:
    """Four metrics of a training against its steps, from the lines of its log."""
    curves = [("tokenizer", "reconstruction_px", "reconstruction (px)"), ("tokenizer", "code_pairs", "code pairs"),
              ("policy", "primary_accuracy", "primary code right"), ("policy", "offset_loss_px", "action error (px)")]
    figure, axes = panels(2, 2, height=4.2)
    for ax, (stage, name, label) in zip(axes.flat, curves, strict=True):
        lines = [line for line in log if line["stage"] == stage]
        ax.plot([line["step"] for line in lines], [line[name] for line in lines],
                color=CODE if stage == "tokenizer" else POLICY)
        ax.set(xlabel=f"step of the {stage}", title=label, ylim=(0, None))
    show()


def seeds_with_intervals(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """{kind: metrics of evaluations, one for each training seed}: average max reward, success with its interval."""
    figure, axes = panels(1, 2, height=2.4, sharey=True)
    for y, metrics in enumerate(runs.values()):
        for seed, m in enumerate(metrics):
            at = y + 0.2 * (seed - 1)
            axes[0].plot(m["avg_max_reward"], at, "o", color=POLICY)
            axes[1].plot(m["success_ci95"], [at, at], color=CODE)
            axes[1].plot(m["success_rate"], at, "o", color=POLICY)
    axes[0].set(xlim=(0, 1), xlabel="average max reward", yticks=range(len(runs)), yticklabels=list(runs))
    axes[1].set(xlim=(0, 1), xlabel="success, 95 % interval", ylim=(len(runs) - 0.5, -0.5))
    show()


# --- lesson 10: baselines -------------------------------------------------------------------------------------------


def ideas(policies: Mapping[str, tuple[str, str]]) -> None:
    """{policy: (its network, what it decides on)}, a row of boxes for each."""
    figure, ax = panels(height=2.6)
    for y, (name, (network, choice)) in enumerate(policies.items()):
        for x, text in [(0, name), (1, network), (2.7, choice)]:
            ax.text(x, -y, text, ha="center", va="center", fontsize=9,
                    bbox={"boxstyle": "round,pad=0.3", "fc": "#F5C77E" if name == "VQ-BeT" else "#CFE3F1", "ec": "0.6"})
    ax.set(xlim=(-0.5, 4), ylim=(-len(policies) + 0.4, 0.6))
    ax.axis("off")
    show()


def route_shares(routes: Mapping[str, Mapping[str, float]]) -> None:
    """{policy: shares of rollouts that go left, go right, are lost}, a stacked bar for each."""
    figure, ax = panels(height=2.0)
    for y, shares in enumerate(routes.values()):
        left = 0.0
        for colour, share in zip((DEMO, POLICY, FAILURE), shares.values(), strict=True):
            ax.barh(y, share, left=left, color=colour)
            left += share
    ax.set(yticks=range(len(routes)), yticklabels=list(routes), xlabel="share of rollouts: left, right (blues), lost (red)")
    show()


def rewards(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """{title: rows of a panel}, a panel for each: average max reward as bars, success beside them."""
    figure, axes = panels(1, len(tables), height=2.6, sharey=True)
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        bars = ax.barh([row["policy"] for row in table], [row["reward"] for row in table], color=POLICY)
        ax.bar_label(bars, [f"{row['success']:.0%}" for row in table], padding=3)
        ax.set(title=title, xlim=(0, 1.2), xlabel="average max reward; success")
    axes[0].invert_yaxis()
    show()
