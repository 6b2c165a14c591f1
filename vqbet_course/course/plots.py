"""Drawing functions of the lessons: one palette, one way to draw the board, figures that can be read on a phone.

Every figure begins with `panels`, which sets fonts and resolution. Positions are in pixels with y downwards, as on
the screen. A colour has one meaning in all lessons; what comes in an order (training steps, layers, numbers of
codes) is drawn in `shades`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.palette import CODE as CODE
from vqbet_course.core.palette import DEMO as DEMO
from vqbet_course.core.palette import FAILURE as FAILURE
from vqbet_course.core.palette import GOAL as GOAL
from vqbet_course.core.palette import OFFSET as OFFSET
from vqbet_course.core.palette import OTHER as OTHER
from vqbet_course.core.palette import POLICY as POLICY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.4
"""Width of a figure in inches: text of 11 points is then about 9 pixels high on a screen of 390 pixels."""

STYLE: Any = {
    "figure.dpi": 120,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2,
    "legend.frameon": False,
}

MARKERS, DASHES = "osD^vP", ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


def panels(
    rows: int = 1, columns: int = 1, height: float = 2.8, width: float = WIDTH, **more: Any
) -> "tuple[Figure, Any]":
    """A figure of the lessons' size and fonts with (rows, columns) axes, as `plt.subplots` returns it; inches."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **more)


def figure(height: float, width: float = WIDTH) -> "Figure":
    """An empty figure of the lessons' fonts; inches."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
    return plt.figure(figsize=(width, height), layout="constrained")


def show() -> None:
    """Show the figure."""
    import matplotlib.pyplot as plt

    plt.show()


def shades(n: int) -> list[Any]:
    """n colours for what comes in an order, from dark to light; the lightest is still seen on white."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.85 * i / max(1, n - 1)) for i in range(n)]


def legend(ax: "Axes", columns: int = 3, title: str | None = None) -> None:
    """The legend of a panel, below it, where it hides nothing."""
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=columns, title=title, handlelength=2.2, columnspacing=1.2
    )


# --- positions and actions ---------------------------------------------------------------------------------------


def board(
    ax: "Axes", size: float = 512, block: Any = None, goal: Any = None, pusher: Any = None, radius: float = 15
) -> None:
    """The board seen from above, y downwards: outlines (P, 2) of block and goal, the pusher (2,); pixels."""
    from matplotlib.patches import Circle, Polygon

    if goal is not None:
        ax.add_patch(Polygon(np.asarray(goal), facecolor="#BFE5D8", edgecolor=GOAL))
    if block is not None:
        ax.add_patch(Polygon(np.asarray(block), facecolor="0.72", edgecolor="0.4", alpha=0.9))
    if pusher is not None:
        ax.add_patch(Circle(tuple(np.asarray(pusher, float)), radius, facecolor=DEMO, alpha=0.75))
    ax.set(
        xlim=(0, size),
        ylim=(size, 0),
        aspect="equal",
        xticks=(0, size),
        yticks=(0, size),
        xlabel="x (px)",
        ylabel="y (px)",
    )


def plane(ax: "Axes", reach: float | None = None, title: str = "") -> None:
    """Axes for displacements from the pusher, which is drawn at the origin; y downwards, pixels up to `reach`."""
    ax.plot(0, 0, "o", color=DEMO, markersize=9, alpha=0.75, zorder=1)
    ax.set(xlabel="x from the pusher (px)", ylabel="y from the pusher (px), down", title=title, aspect="equal")
    if reach is not None:
        ax.set(xlim=(-reach, reach), ylim=(reach, -reach))
    elif not ax.yaxis_inverted():
        ax.set_aspect("equal", adjustable="datalim")
        ax.invert_yaxis()
    ax.locator_params(nbins=4)


def absolute_and_relative(block: Any, chunks: Mapping[str, tuple[Any, Any]]) -> None:
    """Chunks {name: (pusher (2,), chunk (W, 2) relative to it)} on the board, beside the same chunks from one origin.

    block (P, 2): the outline of the T. All in pixels.
    """
    _, (left, right) = panels(1, 2, height=3.2)
    board(left, block=block, pusher=next(iter(chunks.values()))[0])
    for (name, (pusher, chunk)), color in zip(chunks.items(), (DEMO, "black", CODE), strict=False):
        path(left, np.asarray(pusher) + np.asarray(chunk), color, name)
        path(right, chunk, color)
    left.set_title("absolute actions")
    left.legend(fontsize=9)
    plane(right, reach=70, title="relative actions")
    show()


def chunk_and_offset(primary: Any, decoded: Any, demonstrated: Any) -> None:
    """The figure of a chunk: what its primary code and what all its codes decode to, and the offset; each (W, 2), px."""
    _, ax = panels(height=3.4)
    path(ax, primary, OTHER, "primary code alone", linestyle=":")
    path(ax, decoded, CODE, "both codes")
    path(ax, demonstrated, DEMO, "demonstration")
    for start, end in zip(decoded, demonstrated, strict=True):
        arrow(ax, start, end, OFFSET)
    ax.plot([], [], color=OFFSET, label="offset")
    plane(ax)
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    show()


def sums(first: Any, second: Any, title: str) -> None:
    """All sums of a vector of `first` (N, 2), blue arrows, and one of `second` (M, 2), purple lines."""
    _, ax = panels(height=3.4, width=3.6)
    for start in np.asarray(first):
        arrow(ax, (0, 0), start, DEMO)
        for end in start + np.asarray(second):
            ax.plot(*zip(start, end, strict=True), color=OFFSET, linewidth=1)
            ax.plot(*end, "o", color=OFFSET, markersize=4)
    ax.set(aspect="equal", title=title)
    ax.axis("off")
    show()


def small(ax: "Axes", title: str = "") -> None:
    """A panel without ticks and labels, for grids of many small panels."""
    ax.set(xticks=(), yticks=(), xlabel="", ylabel="")
    ax.set_title(title, fontsize=9)


def path(ax: "Axes", points: Any, color: Any = DEMO, label: str | None = None, **style: Any) -> None:
    """A chunk (W, 2) as a path with a dot at every action."""
    ax.plot(*np.asarray(points).T, **{"marker": ".", "markersize": 5, "color": color, "label": label} | style)


def scale_bar(ax: "Axes", length: float, pixels: float = 1) -> None:
    """A bar of `length` pixels in the lower left corner of a panel without ticks; a pixel is `pixels` units of x."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x, y = left + 0.05 * (right - left), bottom + 0.06 * (top - bottom)
    ax.plot((x, x + length * pixels), (y, y), color="black", linewidth=2, solid_capstyle="butt", clip_on=False)
    ax.text(x, y + 0.025 * (top - bottom), f"{length:g} px", ha="left", va="bottom", fontsize=9)


def arrow(ax: "Axes", start: Any, end: Any, color: Any) -> None:
    """An arrow from one point (2,) to another."""
    ax.annotate(
        "",
        tuple(np.asarray(end, float)),
        tuple(np.asarray(start, float)),
        arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0},
    )


def regions(ax: "Axes", tokens: Any, reach: float, codes: Any) -> None:
    """Voronoi cells: tokens (n, n), row by row from the top left, of a square up to `reach`; their codes (K, 2).

    The borders of the cells are drawn, so that a shade of grey cannot be read as a value."""
    tokens = np.asarray(tokens)
    span = np.linspace(-reach, reach, len(tokens))
    for code in range(len(codes)):
        ax.contour(span, span, tokens == code, levels=[0.5], colors="0.6", linewidths=0.8)
    ax.plot(*np.asarray(codes).T, "o", color=CODE, markeredgecolor="black", markersize=7, zorder=3)


# --- numbers ------------------------------------------------------------------------------------------------


def curves(
    ax: "Axes",
    x: Any,
    series: Mapping[str, Any],
    colors: Sequence[Any] | None = None,
    dots: bool = True,
    columns: int = 3,
    **labels: Any,
) -> None:
    """One curve per name, distinguished by colour, dash and marker; y starts at 0. `labels` go to `ax.set`.

    x: positions for all curves, or None for 0, 1, 2, ...; a curve that is a dict {x: y} brings its own.
    """
    colors = shades(len(series)) if colors is None else colors
    for i, ((name, values), color) in enumerate(zip(series.items(), colors, strict=True)):
        style: Any = {"marker": MARKERS[i % 6], "markersize": 6} if dots else {}
        positions = list(values) if isinstance(values, dict) else range(len(values)) if x is None else x
        heights = list(values.values()) if isinstance(values, dict) else np.asarray(values)
        ax.plot(positions, heights, color=color, linestyle=DASHES[i % 6], label=name, **style)
    ax.set(**{"ylim": (0, None)} | labels)
    if len(series) > 1:
        legend(ax, columns)


def rates(
    ax: "Axes",
    values: Mapping[str, tuple[float, float, float]],
    colors: Sequence[Any] | None = None,
    label: str = "success rate",
) -> None:
    """Rates (0..1) with their intervals: a row {name: (rate, low, high)} each, from the top."""
    for y, (rate, low, high) in enumerate(values.values()):
        color = DEMO if colors is None else colors[y]
        ax.plot((low, high), (y, y), color=color, linewidth=4, alpha=0.4, solid_capstyle="round")
        ax.plot(rate, y, "o", color=color, markersize=9, clip_on=False)
        ax.text(1.03, y, f"{rate:.0%}", va="center", color=color if color != POLICY else "black")
    ax.set(
        xlim=(0, 1),
        ylim=(len(values) - 0.5, -0.5),
        xlabel=f"{label}, with its 95 % interval",
        yticks=range(len(values)),
        yticklabels=list(values),
        xticks=(0, 0.25, 0.5, 0.75, 1),
    )
    ax.grid(axis="x", color="0.9")


def success_rates(
    metrics: Mapping[str, Mapping[str, Any]], colors: Sequence[Any] | None = None, height: float = 2.4, title: str = ""
) -> None:
    """The figure of the success rates in {name: metrics of an evaluation}, each with its interval."""
    _, ax = panels(height=height)
    ax.set_title(title)
    rates(ax, {name: (m["success_rate"], *m["success_ci95"]) for name, m in metrics.items()}, colors)
    show()


def curve_figure(x: Any, series: Mapping[str, Any], height: float = 3.2, **more: Any) -> None:
    """The figure of some curves, as `curves` draws them."""
    _, ax = panels(height=height)
    curves(ax, x, series, **more)
    show()


def heatmap(
    ax: "Axes",
    matrix: Any,
    label: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    colorbar: bool = True,
    **limits: Any,
) -> None:
    """A matrix as colours, row 0 at the top, with a colour bar; NaN stays grey. `limits`: vmin, vmax or norm."""
    image = ax.imshow(np.asarray(matrix, float), cmap="viridis", aspect="auto", **limits)
    ax.set_facecolor("0.88")
    if rows:
        ax.set_yticks(range(len(rows)), rows)
    if columns:
        ax.set_xticks(
            range(len(columns)),
            columns,
            rotation=40 if max(map(len, columns)) > 4 else 0,
            ha="right" if max(map(len, columns)) > 4 else "center",
        )
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label=label)


def bar_panels(
    groups: Mapping[str, Any], x: Any = None, height: float = 2.5, xlabel: str = "", ylabel: str = ""
) -> None:
    """The figure of a panel of bars for each group {title: heights}; x: where they stand, else at 0, 1, 2, ..."""
    _, axes = panels(1, len(groups), height=height, sharey=True)
    for ax, (title, heights) in zip(axes, groups.items(), strict=True):
        places = np.arange(len(heights)) if x is None else np.asarray(x)
        ax.bar(places, np.asarray(heights), width=0.9 * (places[1] - places[0]), color=CODE)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(xlabel)
    axes[0].set_ylabel(ylabel)
    show()


def grouped_bars(groups: Mapping[str, Mapping[str, float]], ylabel: str, height: float = 3.2) -> None:
    """The figure of some bars {group: {name: value}}, a colour per name, with the value above each."""
    _, ax = panels(height=height)
    names = list(next(iter(groups.values())))
    for i, (name, color) in enumerate(zip(names, (CODE, OFFSET, POLICY, OTHER), strict=False)):
        places = [g + 0.27 * (i - (len(names) - 1) / 2) for g in range(len(groups))]
        bars = ax.bar(places, [values[name] for values in groups.values()], 0.25, color=color, label=name)
        ax.bar_label(bars, fmt="%.1f", fontsize=9)
    ax.set_xticks(range(len(groups)), list(groups))
    ax.set_ylabel(ylabel)
    legend(ax)
    show()


def staircase(probabilities: Any, uniform: float) -> None:
    """The figure of how a uniform number draws a code: the cumulative probabilities as a staircase."""
    share = np.asarray(probabilities, float)
    top = share.cumsum()
    code = int((top <= uniform).sum())
    _, ax = panels(height=2.8, width=4.6)
    ax.bar(range(len(share)), share, bottom=top - share, color=CODE, width=1, edgecolor="white")
    arrow(ax, (-0.5, uniform), (code, uniform), FAILURE)
    arrow(ax, (code, uniform), (code, 0), FAILURE)
    ax.set(xlabel="code", ylabel="uniform number", xlim=(-0.5, len(share) - 0.5), ylim=(0, 1))
    ax.set_title(f"{uniform:g} draws code {code}")
    show()


def heatmaps(matrices: Mapping[str, Any], label: str, xlabel: str, ylabel: str, **limits: Any) -> None:
    """The figure of some matrices {title: (n, m)} side by side, with one colour bar; `limits`: vmin, vmax."""
    _, axes = panels(1, len(matrices), height=2.2, sharey=True)
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        heatmap(ax, matrix, label, colorbar=ax is axes[-1], **{"vmin": 0} | limits)
        ax.set_title("\n".join(title.rsplit(" ", 1)) if len(title) > 14 else title, fontsize=10)
        ax.set_xlabel(xlabel, fontsize=9)
    axes[0].set_ylabel(ylabel)
    show()


# --- images and text -------------------------------------------------------------------------------------


def last_frame(env: Any, seed: int, actions: Sequence[Any]) -> Any:
    """The frame (H, W, 3) that a Gymnasium environment shows after these actions from the start of a seed."""
    env.reset(seed=seed)
    for action in actions:
        env.step(action)
    return env.unwrapped.render()


def frame_grid(
    images: Mapping[str, Any] | Sequence[tuple[str, Any]], columns: int = 3, good: Sequence[bool] = ()
) -> None:
    """Frames (H, W, 3) with titles side by side; `good` colours the titles: green for success, red for failure."""
    named = list(images.items() if isinstance(images, Mapping) else images)
    arrays = [np.asarray(image) for _, image in named]
    rows = -(-len(arrays) // columns)
    tall = WIDTH / columns * arrays[0].shape[0] / arrays[0].shape[1] + 0.35
    _, axes = panels(rows, columns, rows * tall, squeeze=False)
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < len(arrays):
            ax.imshow(arrays[i])
            color = "black" if not good else GOAL if good[i] else FAILURE
            ax.set_title(named[i][0], color=color, fontsize=10 if columns < 4 else 8)
    show()


def sentences(
    rows: Mapping[str, Sequence[Any]],
    moves: Mapping[Any, Any] | None = None,
    height: float = 3.0,
    question: bool = True,
) -> None:
    """Rows of tokens, a name in front and, with `question`, a question mark behind. A token in `moves`
    {token: path (W, 2)} is drawn as its move from a black dot, y downwards, above its name."""
    moves = moves or {}
    longest = max((np.abs(np.asarray(move)).max() for move in moves.values()), default=1.0)
    _, ax = panels(height=height)
    y = 0.0
    for name, tokens in rows.items():
        drawn = any(token in moves for token in tokens)
        y -= 1.1 if drawn else 0.6
        ax.text(-0.2, y, name, ha="right", va="center", color="0.35")
        for x, token in enumerate(tokens):
            if token in moves:
                points = np.concatenate([np.zeros((1, 2)), np.asarray(moves[token])]) * 0.45 / longest
                ax.plot(x + 0.4 + points[:, 0], y - points[:, 1], ".-", color=CODE, markersize=4)
                ax.plot(x + 0.4, y, "ko", markersize=4)
            words = "·".join(map(str, token)) if isinstance(token, tuple) else str(token)
            ax.text(
                x + 0.4,
                y - (0.58 if token in moves else 0),
                words,
                ha="center",
                va="center",
                fontsize=10 if drawn else 13,
            )
        if question:
            ax.text(len(tokens) + 0.35, y, "?", ha="center", va="center", color=FAILURE, fontsize=18, weight="bold")
    ax.set(xlim=(-1.3, max(map(len, rows.values())) + 0.6), ylim=(y - 0.75, -0.3), aspect="equal")
    if moves:
        scale_bar(ax, 20, 0.45 / longest)
    ax.axis("off")
    show()


def vocabulary(moves: Any, names: Sequence[str], columns: int = 4) -> None:
    """A panel per name with its moves: moves (N, P, W, 2) start at the pusher and are coloured in `shades`, y down,
    one scale for all panels."""
    moves = np.asarray(moves)
    reach = 1.05 * np.abs(moves).max()
    rows = -(-len(moves) // columns)
    _, axes = panels(rows, columns, rows * (WIDTH / columns + 0.25), squeeze=False)
    for ax, fan, name in zip(axes.flat, moves, names, strict=False):
        for points, color in zip(fan, shades(len(fan)), strict=True):
            ax.plot(*np.concatenate([np.zeros((1, 2)), points]).T, color=color, linewidth=1.3)
        ax.plot(0, 0, "o", color=DEMO, markersize=4)
        ax.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
        small(ax, name)
    scale_bar(axes.flat[0], 20)
    for ax in axes.flat[len(moves) :]:
        ax.axis("off")
    show()


def flow(rows: Sequence[Sequence[str]], titles: Sequence[str], height: float = 1.6) -> None:
    """Boxes with words, each row from left to right with arrows between them, its title in front."""
    _, ax = panels(height=height)
    for y, (row, title) in enumerate(zip(rows, titles, strict=True)):
        ax.text(-1, -y, title, ha="center", va="center", fontsize=9, color="0.35")
        for x, words in enumerate(row):
            ax.text(
                x,
                -y,
                words,
                ha="center",
                va="center",
                fontsize=9,
                bbox={"boxstyle": "round,pad=0.35", "fc": "#E8F1F8", "ec": "0.5"},
            )
            if x:
                ax.annotate("", (x - 0.36, -y), (x - 0.64, -y), arrowprops={"arrowstyle": "->", "color": "0.3"})
    ax.set(xlim=(-1.4, max(map(len, rows)) - 0.5), ylim=(0.5 - len(rows), 0.5))
    ax.axis("off")
    show()


# --- lesson 06: the policy ------------------------------------------------------------------------------------------


def query_timeline(T: int, future: int, W: int) -> None:
    """T observation steps, `future` more queries, and the chunk of W actions of each, over a common time axis."""
    figure, ax = panels(height=3.6)
    for i in range(T + future):
        now, x = i == T - 1, i - T + 1
        boxes = [(x - 0.26, "obs", DEMO)] * (i < T) + [(x + (0.22 if i < T else 0), "query", CODE)]
        for at, word, colour in boxes:
            ax.text(
                at,
                0,
                word,
                ha="center",
                va="center",
                fontsize=8,
                color="white",
                bbox={"boxstyle": "round", "fc": colour, "ec": "none"},
            )
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
    stages = {
        "Stage 1": (["chunk", "encoder", "codes", "decoder", "chunk"], (1, 2, 3), ()),
        "Stage 2": (["observations", "GPT, heads", "codes", "decoder", "chunk + offset"], (1,), (2, 3)),
    }
    figure, ax = panels(height=2.0)
    for y, (stage, (boxes, learns, frozen)) in enumerate(stages.items()):
        ax.text(-1.1, -y, stage, va="center", weight="bold")
        for x, text in enumerate(boxes):
            colour = "#F5C77E" if x in learns else "#CFE3F1" if x in frozen else "white"
            ax.text(
                x,
                -y,
                text,
                ha="center",
                va="center",
                fontsize=8,
                bbox={"boxstyle": "round,pad=0.4", "fc": colour, "ec": "0.5"},
            )
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
    """Four metrics of a training against its steps, from the lines of its log; distances in the unit that it states."""

    def unit(distance: str) -> str:
        return next(name for line in log for name in line if name.startswith(f"{distance}_")).removeprefix(
            f"{distance}_"
        )

    curves = [
        ("tokenizer", f"reconstruction_{unit('reconstruction')}", f"reconstruction ({unit('reconstruction')})"),
        ("tokenizer", "code_pairs", "code pairs"),
        ("policy", "primary_accuracy", "primary code right"),
        ("policy", f"offset_loss_{unit('offset_loss')}", f"action error ({unit('offset_loss')})"),
    ]
    figure, axes = panels(2, 2, height=4.2)
    for ax, (stage, name, label) in zip(axes.flat, curves, strict=True):
        lines = [line for line in log if line["stage"] == stage]
        ax.plot(
            [line["step"] for line in lines],
            [line[name] for line in lines],
            color=CODE if stage == "tokenizer" else POLICY,
        )
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


IDEAS = {
    "BC": ("MLP", "one chunk, the mean of all"),
    "BeT": ("GPT", "a k-means bin of single actions + offset"),
    "ACT": ("transformer", "one chunk; a latent variable in training"),
    "Diffusion": ("U-Net", "a chunk, denoised step by step"),
    "Flow": ("MLP", "noise, carried to a chunk by a velocity"),
    "VQ-BeT": ("GPT", "learned codes of chunks + offset"),
}
"""{policy: (its network, what it decides on)}, of the panel of lesson 10."""


def ideas() -> None:
    """The policies of lesson 10, their networks and what they decide on: a row of boxes for each."""
    figure, ax = panels(height=2.6)
    for y, (name, (network, choice)) in enumerate(IDEAS.items()):
        for x, text in [(0, name), (1, network), (2.7, choice)]:
            ax.text(
                x,
                -y,
                text,
                ha="center",
                va="center",
                fontsize=9,
                bbox={"boxstyle": "round,pad=0.3", "fc": "#F5C77E" if name == "VQ-BeT" else "#CFE3F1", "ec": "0.6"},
            )
    ax.set(xlim=(-0.5, 4), ylim=(-len(IDEAS) + 0.4, 0.6))
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
    ax.set(
        yticks=range(len(routes)), yticklabels=list(routes), xlabel="share of rollouts: left, right (blues), lost (red)"
    )
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


# --- lesson 09: rollouts --------------------------------------------------------------------------------------------


def coverage_curves(curves: Sequence[tuple[Sequence[float], bool]], success: float) -> None:
    """Coverage over the steps of episodes (coverage, success); the dashed line is the coverage that counts as success."""
    figure, ax = panels()
    for coverage, won in curves:
        colour, end = (GOAL, "o") if won else (FAILURE, "X")
        ax.plot(coverage, color=colour, linewidth=1, alpha=0.7)
        ax.plot(len(coverage) - 1, coverage[-1], end, color=colour)
    ax.axhline(success, color=OTHER, linestyle="--", linewidth=1)
    ax.set(xlabel="step (green dot: success, red cross: failure)", ylabel="coverage", ylim=(0, 1.02))
    show()


# --- lesson 11: goals -----------------------------------------------------------------------------------------------


def token_row(names: Sequence[str]) -> None:
    """A sequence of tokens by their names: goals green, observations blue, queries orange; an arrow from last to first."""
    figure, ax = panels(height=1.1)
    for x, name in enumerate(names):
        colour = {"g": "#BFE5D8", "o": "#CFE3F1", "q": "#F5C77E"}[name[0]]
        ax.text(x, 0, name, ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "fc": colour, "ec": "0.5"})
    last = len(names) - 1
    ax.annotate("", (0, 0.42), (last, 0.42), arrowprops={"arrowstyle": "->", "connectionstyle": "bar,fraction=-0.06"})
    ax.text(last / 2, 0.95, "attends to", ha="center", va="center", fontsize=9)
    ax.set(xlim=(-0.5, last + 0.5), ylim=(-0.5, 1.1))
    ax.axis("off")
    show()


def outlines(groups: Mapping[str, Any], size: float = 512) -> None:
    """{title: outlines (n, P, 2) in pixels}, a board for each."""
    figure, axes = panels(1, len(groups), height=3.2)
    for ax, (title, shapes) in zip(axes, groups.items(), strict=True):
        for shape in shapes:
            ax.fill(*np.asarray(shape).T, facecolor=GOAL, alpha=0.06, edgecolor=GOAL, linewidth=0.5)
        ax.set(xlim=(0, size), ylim=(size, 0), aspect="equal")
        small(ax, title)
    show()


def routes(ax: "Axes", paths: Mapping[str, Sequence[Any]]) -> None:
    """{route: paths (T, 2) in metres} in one panel, a colour for each route."""
    for (route, walked), colour in zip(paths.items(), (DEMO, CODE), strict=False):
        for i, points in enumerate(walked):
            ax.plot(*np.asarray(points).T, color=colour, alpha=0.5, linewidth=1, label=None if i else f"goals: {route}")
    legend(ax)
    show()


def goal_start_best(moments: Sequence[Sequence[Any]], columns: int = 3, size: float = 512) -> None:
    """Outlines (P, 2), in pixels, of the goal, the start and the best moment of episodes, a board for each."""
    rows = -(-len(moments) // columns)
    figure, axes = panels(rows, columns, height=2.1 * rows, squeeze=False)
    for ax, shapes in zip(axes.flat, moments, strict=False):
        for shape, colour in zip(shapes, (GOAL, OTHER, POLICY), strict=True):
            ax.fill(*np.asarray(shape).T, facecolor=colour, alpha=0.4, edgecolor=colour)
        ax.set(xlim=(0, size), ylim=(size, 0), aspect="equal")
        small(ax)
    show()


def metric_dots(groups: Mapping[str, Sequence[Mapping[str, Any]]], metrics: Mapping[str, str]) -> None:
    """{name: metrics of each training seed}, a row for each name; {metric: words}, a panel for each metric, 0..1."""
    figure, axes = panels(1, len(metrics), height=2.2, sharey=True)
    for ax, (metric, words) in zip(axes, metrics.items(), strict=True):
        for y, found in enumerate(groups.values()):
            ax.plot([m[metric] for m in found], [y] * len(found), "o", color=POLICY, alpha=0.8)
        ax.set(xlim=(-0.03, 1), xlabel=words, ylim=(len(groups) - 0.5, -0.5))
    axes[0].set(yticks=range(len(groups)), yticklabels=list(groups))
    show()


# --- lesson 15: corrections ---------------------------------------------------------------------------------------------


def navigation_panels(groups: Mapping[str, tuple[Sequence[Any], Sequence[bool] | None]], draw: Any) -> None:
    """{title: (paths (T, 2) in metres, whether each is lost)}, a panel each, two in a row; `draw` draws the world and
    paths into axes (`navigation.plot_paths`)."""
    rows = -(-len(groups) // 2)
    _, axes = panels(rows, 2, 2.6 * rows, squeeze=False)
    for ax, (title, (paths, lost)) in zip(axes.flat, groups.items(), strict=False):
        draw(ax, list(paths), lost)
        ax.set_title(title)
    show()


def growth(groups: Mapping[str, Sequence[Any]], ylabel: str) -> None:
    """{name: a series (T,) of each rollout}: thin lines, and their mean over the rollouts that still run."""
    _, ax = panels(height=2.8)
    for (name, series), color in zip(groups.items(), (GOAL, FAILURE), strict=False):
        for values in series:
            ax.plot(values, color=color, alpha=0.2, linewidth=1)
        steps = range(max(map(len, series), default=0))
        mean = [np.mean([values[step] for values in series if len(values) > step]) for step in steps]
        ax.plot(mean, color=color, linewidth=3, label=f"{name} ({len(series)})")
    ax.set(xlabel="step", ylabel=ylabel, ylim=(0, None))
    legend(ax)
    show()


def taken_over(progress: Sequence[float], spans: Sequence[tuple[int, int]], success: float) -> None:
    """The coverage of one episode, with bands over the steps from start to end that were taken from the policy."""
    _, ax = panels(height=2.8)
    ax.plot(progress, color=POLICY, label="coverage")
    ax.axhline(success, color=GOAL, linestyle="--", linewidth=1, label="success")
    for i, (start, end) in enumerate(spans):
        ax.axvspan(start, end, color=CODE, alpha=0.3, linewidth=0, label=None if i else "the expert acts")
    ax.set(xlabel="step", ylabel="coverage", ylim=(0, 1))
    legend(ax)
    show()


def against_steps(ways: Mapping[str, Sequence[Mapping[str, Any]]], metrics: Mapping[str, str]) -> None:
    """{way: parts, each with `round`, `added_steps` and `metrics`}; {metric: words}, a panel for each. A dot is a training
    seed, a line goes through the means of the rounds."""
    _, axes = panels(1, len(metrics), height=3.0)
    for ax, (metric, words) in zip(axes, metrics.items(), strict=True):
        for i, ((way, parts), color) in enumerate(zip(ways.items(), (CODE, OFFSET, DEMO), strict=False)):
            rounds = sorted({part["round"] for part in parts})
            of = [[(p["added_steps"], p["metrics"][metric]) for p in parts if p["round"] == n] for n in rounds]
            ax.plot(*np.concatenate(of).T, MARKERS[i], color=color, alpha=0.35, markersize=5)
            ax.plot(*np.array([np.mean(points, axis=0) for points in of]).T, DASHES[i], color=color, label=way)
        ax.set(xlabel="steps that were added", ylabel=words)
    handles, names = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, names, loc="outside lower center", ncols=3)
    show()


# --- lesson 07: demonstrations --------------------------------------------------------------------------------------


def chunk_boards(chunks: Mapping[str, Any], size: float = 512) -> None:
    """{title: chunk (W, 2) in pixels}, a board for each."""
    figure, axes = panels(1, len(chunks), height=3.2)
    for ax, (title, points) in zip(axes, chunks.items(), strict=True):
        board(ax, size)
        path(ax, points, FAILURE)
        ax.set_title(title)
    show()
