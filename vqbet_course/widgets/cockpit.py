"""The cockpit: a policy drives, and its plan, tokens, probabilities and attention are seen at every step."""

import os
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.palette import CODE, FAILURE, GOAL, OFFSET, OTHER, POLICY
from vqbet_course.widgets.attention import attention_weights
from vqbet_course.widgets.decisions import Mind, drawn_chunks, mind_of
from vqbet_course.widgets.drive import SIDE, Drive, DriveBoard, draw_board_on
from vqbet_course.widgets.frames import SWITCH, FrameControl, with_frames
from vqbet_course.widgets.parts import as_image, choice, draw_scene, slider, under_canvas, with_picture, young_figures

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vqbet_course.tasks.task import Scene
    from vqbet_course.training.runs import Run

TEMPERATURES = (0.0, 0.1, 0.3, 0.5, 1.0, 3.0)
NEAR = 42  # pixels of the board around the pusher that are drawn larger
ZOOM = 140  # pixels of the canvas for them, right of the board
LEGEND = (("may be drawn", POLICY), ("its tokens", CODE), ("the offset", OFFSET), ("the plan", FAILURE))
BAR = 30  # pixels of the canvas for the bar of coverage
PANEL_S = 0.4  # seconds between two drawings of the panel while somebody drives: each takes a tenth


@dataclass(frozen=True)
class Thought:
    """What a policy considers at one step of an episode, in pixels of the board.

    fan (n, W, 2): chunks that it may draw; tokens (G,) of the plan, the chunk `decoded` (W, 2) that they decode to, and
    `chunk` (W, 2), the same with the offset; probabilities (G, K) at the temperature; attention (layers, T) of the token
    that decides to each token `names` (T,), the mean of the heads; strip {step: tokens} of all decisions so far; by_hand:
    whether a hand acted, so that the plan is what the policy would have done.
    """

    step: int
    scene: "Scene"
    coverage: float
    enough: float
    temperature: float
    fan: np.ndarray
    tokens: tuple[int, ...]
    decoded: np.ndarray
    chunk: np.ndarray
    probabilities: np.ndarray
    attention: np.ndarray
    names: list[str]
    strip: dict[int, tuple[int, ...]]
    by_hand: bool

    @property
    def plan(self) -> str:
        """The tokens of the plan as text."""
        return "·".join(map(str, self.tokens))

    def describe(self) -> str:
        """The step in words."""
        who = "would choose" if self.by_hand else "chose"
        return (
            f"step {self.step}: the policy {who} tokens {self.plan}; the offset moves the last action by "
            f"{np.linalg.norm(self.chunk[-1] - self.decoded[-1]):.0f} px; coverage {self.coverage:.2f}"
        )


def seen_at(drive: Drive, step: int) -> "tuple[np.ndarray, np.ndarray]":
    """Keypoints (16,) and pusher (2,) before a step; after the last one, as they are now."""
    if step < len(drive.steps):
        return drive.steps[step][0], drive.steps[step][1]
    return drive.seen["environment_state"], drive.seen["agent_pos"]


def mind_at(drive: Drive, step: int) -> Mind:
    """The policy's features and logits at a step, the last entry of a Mind of its window."""
    import torch

    assert drive.run is not None
    first = max(0, step - drive.run.policy.config.n_obs_steps + 1)
    window = [seen_at(drive, at) for at in range(first, step + 1)]
    corners, pusher = (torch.from_numpy(np.stack(part)).float() for part in zip(*window, strict=True))
    return mind_of(drive.run, {"observation.environment_state": corners, "observation.state": pusher})


def attention_of(mind: Mind) -> tuple[np.ndarray, list[str]]:
    """How much the token that decides attends to each token at the last step of a Mind: the mean of the heads,
    (layers, T), and the tokens' names."""
    import torch

    from vqbet_course.policy import token_sequence

    network = mind.run.policy.network
    with torch.no_grad():
        tokens = network.encode({name: values[-1:] for name, values in mind.seen.items()})
        row, places = token_sequence(tokens, network.action_query, 0)
    weights = attention_weights(network.gpt, row[0])[:, :, places[-1]].mean(1)
    names = ["query" if network.action_query is not None and at in places else "seen" for at in range(row.shape[1])]
    ages = np.linspace(tokens.shape[1] - 1, 0, len(names)).round().astype(int)
    words = [f"{name}\n{'now' if age == 0 else f'{age} before'}" for name, age in zip(names, ages, strict=True)]
    return weights.numpy(), words


def think(drive: Drive, step: int, temperature: float) -> Thought:
    """What the policy of a drive considers at a step of its episode. Raises `BadInput` without a policy, or for a step
    that is not there."""
    import torch

    if drive.run is None:
        raise BadInput("a cockpit shows a policy: give the drive a run")
    if not 0 <= step <= len(drive.steps):
        raise BadInput(f"step {step}: choose from 0..{len(drive.steps)}")
    mind, network, normalizer = mind_at(drive, step), drive.run.policy.network, drive.run.normalizer
    decision = drive.decided.get(step)
    if decision is None:
        seen = {name: values[-1:] for name, values in mind.seen.items()}
        with torch.no_grad():
            likeliest = network.decide(mind.features[-1:], torch.full((1, network.config.vqvae_n_layers), 0.5), 0.0)
        decision = network.frame.to_absolute(likeliest, seen)
    chunk = normalizer.unnormalize("action", decision.actions)[0].numpy()
    decoded = normalizer.unnormalize("action", decision.decoded)[0].numpy()
    corners, pusher = seen_at(drive, step)
    attention, names = attention_of(mind)
    return Thought(
        step,
        drive.task.scene({"environment_state": corners, "agent_pos": pusher}),
        drive.steps[step - 1][4] if step else 0.0,
        drive.task.success_progress,
        temperature,
        drawn_chunks(mind, len(mind.pusher) - 1, temperature).numpy(),
        tuple(decision.codes[0].tolist()),
        decoded,
        chunk,
        (decision.logits[0] / max(temperature, 1e-6)).softmax(-1).numpy(),
        attention,
        names,
        {at: tuple(one.codes[0].tolist()) for at, one in drive.decided.items()},
        step not in drive.decided,
    )


# --- figures --------------------------------------------------------------------------------------------------------


def draw_plan(ax: "Axes", thought: Thought) -> None:
    """The board at a step, with the fan of chunks, what the tokens decode to, the offset, and the chunk."""
    from matplotlib.collections import LineCollection

    draw_scene(ax, thought.scene)
    for lines, color, width in drawn_lines(thought):
        ax.add_collection(LineCollection(list(lines), colors=color, linewidths=width))
    ax.plot(*thought.chunk.T, ".", color=FAILURE)


def drawn_lines(thought: Thought) -> list[tuple[np.ndarray, str, float]]:
    """The lines of a plan, (n, points, 2) with colour and width: the fan, the offset, the decoded chunk, the chunk."""
    offset = np.stack([thought.decoded, thought.chunk], 1)
    return [
        (thought.fan, POLICY, 1),
        (offset, OFFSET, 2),
        (thought.decoded[None], CODE, 2),
        (thought.chunk[None], FAILURE, 2),
    ]


def draw_zoom(ax: "Axes", thought: Thought) -> None:
    """The plan around the pusher, larger."""
    draw_plan(ax, thought)
    x, y = thought.scene.pusher
    ax.set(xlim=(x - NEAR, x + NEAR), ylim=(y + NEAR, y - NEAR), title="around the pusher")
    for i, (words, color) in enumerate(LEGEND):
        height = 0.9 - 0.2 * i
        ax.plot((1.06, 1.2), (height, height), color=color, linewidth=3, transform=ax.transAxes, clip_on=False)
        ax.text(1.25, height, words, va="center", transform=ax.transAxes)


def draw_coverage(ax: "Axes", thought: Thought) -> None:
    """The coverage as a bar, with a mark where success begins."""
    ax.barh(0, thought.coverage, color=GOAL)
    ax.axvline(thought.enough, color="black", linewidth=1)
    ax.set(xlim=(0, 1), yticks=(), xticks=(), xlabel=f"coverage {thought.coverage:.2f}")


def draw_panel(thought: Thought, bars: "Axes", attention: "Axes", strip: "Axes") -> None:
    """The probabilities of the codes, the attention of the token that decides, and the strip of tokens."""
    G, K = thought.probabilities.shape
    words = layer_names(G)
    for g, color in zip(range(G), (CODE, OFFSET, *[OTHER] * G), strict=False):
        places = np.arange(K) + 0.8 / G * (g - (G - 1) / 2)
        bars.vlines(places, 0, thought.probabilities[g], linewidth=140 / G / K, color=color)
        bars.text(K - 0.5, 0.88 - 0.16 * g, words[g], ha="right", color=color, weight="bold")
    bars.set(
        xlabel="code",
        xlim=(-0.6, K - 0.4),
        ylim=(0, 1),
        yticks=(0, 1),
        xticks=range(0, K, max(1, K // 4)),
        title=f"probabilities at temperature {thought.temperature:g}",
    )
    attention.imshow(thought.attention, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    attention.set_xticks(range(len(thought.names)), thought.names, fontsize=8 if len(thought.names) < 7 else 6)
    attention.set(ylabel="layer", yticks=(0, len(thought.attention) - 1), title="attention (light: more)")
    draw_strip(strip, thought)


def draw_strip(ax: "Axes", thought: Thought) -> None:
    """The tokens of all decisions against the steps, a row for each layer; the line is the step that is shown."""
    G, K = thought.probabilities.shape
    last = max([39, thought.step, *thought.strip])
    cells = np.full((G, last + 1), np.nan)
    for at, tokens in thought.strip.items():
        cells[:, at] = tokens
    ax.imshow(cells, cmap="viridis", vmin=0, vmax=K - 1, aspect="auto", interpolation="nearest")
    ax.axvline(thought.step, color=FAILURE, linewidth=2)
    ax.set(xlabel="step; a colour is a token, the line is the step shown", yticks=(), xticks=(0, last // 2, last))
    for g, name in enumerate(layer_names(G)):
        ax.text(-0.01, (G - g - 0.5) / G, name, ha="right", va="center", fontsize=8, transform=ax.transAxes)


def layer_names(G: int) -> list[str]:
    """The names of G layers of codes."""
    return ["primary", "secondary", *(f"layer {g}" for g in range(2, G))][:G]


STRIP = (0.17, 0.97)  # where the strip begins and ends, in shares of the panel's width


def plot_panel(thought: Thought) -> "Figure":
    """The probabilities of the codes, the attention, and the strip of tokens at one step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.7, 4.8))
    left, right = STRIP
    grid = figure.add_gridspec(
        3, 1, height_ratios=[3, 2, 1.2], left=left, right=right, top=0.94, bottom=0.11, hspace=0.75
    )
    draw_panel(thought, *(figure.add_subplot(grid[i]) for i in range(3)))
    return figure


def plot_cockpit(thought: Thought) -> "Figure":
    """The board, the coverage, the probabilities, the attention and the strip of tokens at one step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.2))
    left = figure.add_gridspec(1, 1, left=0.03, right=0.48, top=0.95, bottom=0.32)
    board = figure.add_subplot(left[0])
    draw_plan(board, thought)
    board.set_title(f"step {thought.step}, tokens {thought.plan}{' (not executed)' if thought.by_hand else ''}")
    low = figure.add_gridspec(1, 2, left=0.04, right=0.48, top=0.24, bottom=0.02, width_ratios=[1, 1.2])
    draw_coverage(
        figure.add_subplot(figure.add_gridspec(1, 1, left=0.34, right=0.48, top=0.07, bottom=0.05)[0]), thought
    )
    draw_zoom(figure.add_subplot(low[0]), thought)
    right = figure.add_gridspec(
        3, 1, height_ratios=[3, 2, 1.2], left=0.58, right=0.98, top=0.95, bottom=0.09, hspace=0.6
    )
    draw_panel(thought, *(figure.add_subplot(right[i]) for i in range(3)))
    return figure


# --- the explorer ---------------------------------------------------------------------------------------------------


class Cockpit(DriveBoard):
    """The controls of `cockpit_explorer`, and what happens when they are used."""

    beside, below = ZOOM + 16, BAR

    def __init__(self, drive: Drive, out: Path, panel: bool = True):
        import ipywidgets

        assert drive.run is not None
        self.back = slider("look back", 0)
        self.temperature = choice(
            "temperature", sorted({*TEMPERATURES, temperature_of(drive)}), value=temperature_of(drive)
        )
        self.panel = ipywidgets.HTML() if panel else None
        self.drawn_at, self.following, self.moving = 0.0, True, False
        super().__init__(drive, out)
        self.back.observe(self.look, names="value")
        self.temperature.observe(self.heat, names="value")
        if self.panel is not None:
            self.clicks = under_canvas(self.panel, self.choose, "Strip of tokens: click a step to look back at it")

    @property
    def step(self) -> int:
        """The step that is shown: the newest decision, or one that is looked back at."""
        if not self.following:
            return int(self.back.value)
        last = len(self.drive.steps) - 1
        return last if last in self.drive.decided else last + 1

    def look(self, change: Any) -> None:
        """Look back at a step; at the last one, follow what happens."""
        if not self.moving:
            self.following = self.back.value >= self.back.max
            self.redraw()

    def heat(self, change: Any) -> None:
        """Let the policy draw its tokens at another temperature."""
        assert self.drive.run is not None
        policy = self.drive.run.policy
        policy.acting = replace(policy.acting, temperature=self.temperature.value)
        self.redraw()

    def choose(self, x: float, y: float) -> None:
        """Look back at the step of the strip that was clicked."""
        left, right = STRIP
        last = max(39, self.back.max)
        self.back.value = min(self.back.max, max(0, round((x - left) / (right - left) * (last + 1) - 0.5)))

    def drag(self, x: float, y: float) -> None:
        """Send the pusher to a point of the canvas, and follow what happens."""
        self.following = True
        super().drag(x, y)

    def show(self, problem: str = "") -> None:
        """Draw the board with the plan, from time to time the panel, and say below how it goes, or the problem."""
        late = time.monotonic() - self.drawn_at > PANEL_S
        self.redraw(problem, panel=late or not self.busy)

    def draw_into(self, ax: "Axes") -> None:
        """Draw the board with the plan into axes."""
        draw_plan(ax, self.thought)

    @property
    def thought(self) -> Thought:
        """What the policy considers at the step that is shown."""
        return think(self.drive, self.step, self.temperature.value)

    def redraw(self, problem: str = "", panel: bool = True) -> None:
        """Draw the step that is shown: the board, and the panel if asked."""
        from ipycanvas import hold_canvas

        if panel:
            self.follow()
        thought = self.thought
        with hold_canvas():
            draw_thought_on(self.canvas, thought, self.drive.target)
        self.draw_still()
        self.say(problem or f"{self.drive.describe()}; {thought.describe()}")
        if panel and self.panel is not None:
            with young_figures():
                self.panel.value = as_image(plot_panel(thought), thought.describe())
            self.drawn_at = time.monotonic()

    def follow(self) -> None:
        """Let the slider reach to the newest step, and lie there while what happens is followed."""
        self.moving = True
        self.back.max = len(self.drive.steps)
        if self.following:
            self.back.value = self.back.max
        self.moving = False

    def begin(self, _: Any = None) -> None:
        """Save what was driven and start the next episode."""
        self.following = True
        super().begin()


def draw_thought_on(canvas: Any, thought: Thought, target: tuple[float, float] | None = None) -> None:
    """What a policy considers, on a canvas: the board with the plan, the same larger around the pusher, coverage."""
    canvas.fill_style = "white"
    canvas.fill_rect(0, 0, canvas.width, canvas.height)
    draw_plan_on(canvas, thought, target)
    larger = ZOOM * thought.scene.size / (2 * NEAR * SIDE)
    x, y = thought.scene.pusher * SIDE / thought.scene.size
    canvas.save()
    canvas.begin_path()
    canvas.rect(SIDE + 8, 22, ZOOM, ZOOM)
    canvas.clip()
    canvas.translate(SIDE + 8 + ZOOM / 2 - larger * x, 22 + ZOOM / 2 - larger * y)
    canvas.scale(larger, larger)
    draw_plan_on(canvas, thought, target, larger)
    canvas.restore()
    canvas.stroke_style = "black"
    canvas.stroke_rect(SIDE + 8, 22, ZOOM, ZOOM)
    canvas.font = "13px sans-serif"
    canvas.fill_style = "black"
    canvas.fill_text(f"step {thought.step}, tokens {thought.plan}", 8, 18)
    canvas.fill_text("around the pusher", SIDE + 8, 16)
    for i, (words, color) in enumerate(LEGEND):
        canvas.fill_style = color
        canvas.fill_rect(SIDE + 8, 22 + ZOOM + 14 + 20 * i, 20, 4)
        canvas.fill_style = "black"
        canvas.fill_text(words, SIDE + 36, 22 + ZOOM + 20 + 20 * i)
    draw_coverage_on(canvas, thought)


def draw_plan_on(canvas: Any, thought: Thought, target: tuple[float, float] | None, larger: float = 1.0) -> None:
    """The board on a canvas that is scaled by `larger`, with the lines of the plan."""
    scale = SIDE / thought.scene.size
    draw_board_on(canvas, thought.scene, target)
    for lines, color, width in drawn_lines(thought):
        canvas.stroke_style, canvas.line_width = color, width / larger
        for line in lines * scale:
            canvas.stroke_lines(line.tolist())
    canvas.fill_style, canvas.line_width = FAILURE, 1 / larger
    canvas.fill_circles(*(thought.chunk * scale).T, 3 / larger)


def draw_coverage_on(canvas: Any, thought: Thought) -> None:
    """The coverage as a bar below the board, with a mark where success begins."""
    for color, left, width, top in (
        ("#BFE5D8", 0, SIDE, 4),
        (GOAL, 0, SIDE * thought.coverage, 4),
        ("black", SIDE * thought.enough, 2, 2),
    ):
        canvas.fill_style = color
        canvas.fill_rect(left, SIDE + top, width, BAR - top - 2)
    canvas.fill_text(f"coverage {thought.coverage:.2f}", 8, SIDE + 21)


def temperature_of(drive: Drive) -> float:
    """The temperature at which the policy of a drive draws its tokens."""
    assert drive.run is not None
    return float(drive.run.policy.acting.temperature)


def with_own_policy(run: "Run") -> "Run":
    """The run with a policy of its own, around the same network: another one's episode goes on beside it."""
    from vqbet_course.policy import VQBeTPolicy

    return replace(run, policy=VQBeTPolicy(run.policy.network, run.policy.acting))


def fly(drive: Drive, steps: int) -> Drive:
    """The drive after some steps of its policy, fewer where the episode is over before."""
    for _ in range(steps):
        if drive.step():
            break
    return drive


def cockpit_explorer(run: "Run", out: Path, seed: int = 0, panel: bool = True) -> "VBox":
    """A board on which the policy of a run drives, or a hand that takes over, with what the policy considers.

    On the board: the chunks that it may draw (light blue), what its tokens decode to (orange), the offset (purple) and
    the plan (red). Beside it, with `panel`: the probabilities of the codes, the attention, and the strip of all tokens; a
    click on it, or the slider, looks back at a step. Driven episodes go to `out`, as those of `drive_explorer`.
    """
    import ipywidgets

    board = Cockpit(Drive(with_own_policy(run), seed), out, panel)
    shown = [board.board] if board.panel is None else [board.board, board.clicks]
    flow = ipywidgets.Layout(flex_flow="row wrap")
    parts = [ipywidgets.HBox(part, layout=flow) for part in (board.buttons, [board.back, board.temperature], shown)]
    box = ipywidgets.VBox([*parts, board.words])
    for part in shown:
        part.layout.flex = "0 0 auto"  # a canvas that is squeezed hears clicks in wrong places

    def draw(step: int) -> str:
        thought = think(flown(), step, temperature_of(flown()))
        return as_image(plot_cockpit(thought), thought.describe())

    @cache
    def flown() -> Drive:
        return fly(Drive(with_own_policy(run), seed), board.drive.task.horizon)

    steps = range(board.drive.task.horizon + 1)
    if os.environ.get(SWITCH):
        steps = range(len(flown().steps))
    ahead = FrameControl("step", steps, [str(step) for step in steps], 0)
    box = with_frames(box, draw, {"step": ahead})
    return with_picture(box, lambda: as_image(plot_cockpit(board.thought), board.thought.describe()))
