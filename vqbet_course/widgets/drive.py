"""Drive it yourself: push the T with the mouse, keep what you did as demonstrations, and take over from a policy."""

import asyncio
import html
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import in_plain_words, write_json
from vqbet_course.core.palette import DEMO, FAILURE, POLICY
from vqbet_course.tasks import DEFAULT_TASK, get_task
from vqbet_course.widgets.parts import DPI, as_image, draw_scene, leave_by_tab, with_picture, young_figures

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vqbet_course.core.frames import Decision
    from vqbet_course.tasks.task import Scene
    from vqbet_course.training.runs import Run

OPERATOR = "human, mouse"
SIDE = 384  # pixels of the canvas
STRIDE = 12  # pixels of the board that an arrow key moves the target

Numbers = dict[str, np.ndarray]
"""A driven episode of T steps: {feature: (T, size)}."""

Row = tuple[np.ndarray, np.ndarray, np.ndarray, bool, float]
"""A step: keypoints (16,), pusher (2,), target (2,), whether a hand chose it, and the coverage after it."""


@dataclass
class Drive:
    """One board of PushT that is driven, step by step, at its 10 Hz.

    A step goes where `target` (2,), in pixels, points while somebody drags; otherwise where the policy of `run` sends
    the pusher, or nowhere. Episodes in which a hand drove go to `solved` or to `unsolved`, each step that was taken
    from the policy marked as an intervention; every episode leaves a line in `results`. `decided`: what the policy
    decided, by step; `ended`: the steps of an episode that is over, until the next one starts.
    """

    run: "Run | None" = None
    seed: int = 0
    target: tuple[float, float] | None = None
    solved: list[Numbers] = field(default_factory=list)
    unsolved: list[Numbers] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.task = get_task(DEFAULT_TASK)
        self.env: Any = self.task.make_env()
        self.rows: list[Row] = []
        self.ended: list[Row] = []
        self.start(self.seed)

    def start(self, seed: int) -> None:
        """Begin an episode from an environment seed; what ran before counts as unsolved."""
        import torch

        self.finish(success=False)
        self.seed, self.coverage = seed, 0.0
        self.ended = []
        self.decided: dict[int, Decision] = {}
        self.seen, _ = self.env.reset(seed=seed)
        if self.run is not None:
            self.run.policy.eval().reset([torch.Generator().manual_seed(seed)])

    @property
    def scene(self) -> "Scene":
        """What is to be drawn now."""
        return self.task.scene(self.seen)

    @property
    def steps(self) -> "list[Row]":
        """The steps of the episode that runs, or else of the one that ended."""
        return self.rows or self.ended

    @property
    def interventions(self) -> int:
        """Steps of the running episode that were taken from the policy."""
        return sum(human for _, _, _, human, _ in self.rows) if self.run is not None else 0

    def step(self) -> bool:
        """Take one step of 0.1 s, unless neither hand nor policy acts; returns whether the episode is over."""
        action = self.action()
        if action is None:
            return False
        state, corners, human = self.seen["agent_pos"], self.seen["environment_state"], self.target is not None
        self.seen, _, success, _, info = self.env.step(action)
        self.coverage = self.task.progress(info)
        self.rows.append((corners, state, action, human, self.coverage))
        over = success or len(self.rows) >= self.task.horizon
        if over:
            self.finish(success)
        return over

    def action(self) -> np.ndarray | None:
        """The target of the pusher, (2,) in pixels: of the hand if it drags, else of the policy."""
        from vqbet_course.rollout import act, observe

        if self.target is not None:
            if self.run is not None:
                self.run.policy.actions.clear()  # it looks anew when the hand lets go
            return np.clip(np.array(self.target, dtype=np.float64), *self.task.contract.action_bounds)
        if self.run is None:
            return None
        policy = self.run.policy
        before = policy.decision
        action = act(policy, self.run.normalizer, observe([self.seen]), self.task.contract.action_bounds)[0]
        if policy.decision is not before and policy.decision is not None:
            self.decided[len(self.rows)] = policy.decision
        return action

    def finish(self, success: bool) -> None:
        """End the running episode: note how it went, keep it if a hand drove. One of a single step is no episode."""
        from vqbet_course.rollout import max_reward

        if len(self.rows) > 1:
            corners, pusher, action, human, coverage = (np.array(column) for column in zip(*self.rows, strict=True))
            self.results.append(
                {
                    "seed": self.seed,
                    "success": bool(success),
                    "steps": len(human),
                    "interventions": self.interventions,
                    "max_coverage": float(coverage.max()),
                    "final_coverage": float(coverage[-1]),
                }
            )
            if human.any():
                (self.solved if success else self.unsolved).append(
                    {
                        "observation.environment_state": corners.astype(np.float32),
                        "observation.state": pusher.astype(np.float32),
                        "action": action.astype(np.float32),
                        "intervention": (human & (self.run is not None))[:, None].astype(np.int64),
                        "next.reward": max_reward(coverage, self.task.success_progress)[:, None].astype(np.float32),
                    }
                )
        self.ended, self.rows = self.steps, []

    def describe(self) -> str:
        """The state of the drive and the positions on the board, as one line of text."""
        x, y = self.seen["agent_pos"]
        words = [
            f"seed {self.seed}, step {len(self.steps)}, {self.task.progress_name} {self.coverage:.2f}",
            f"pusher at ({x:.0f}, {y:.0f})",
            f"{sum(result['success'] for result in self.results)} of {len(self.results)} episodes solved",
        ]
        if self.run is not None:
            taken, steps = (sum(result[what] for result in self.results) for what in ("interventions", "steps"))
            words.append(f"taken over: {taken + self.interventions} of {steps + len(self.rows)} steps")
        return "; ".join(words)


def write_driven(episodes: Sequence[Numbers], out: Path, quiet: bool = True) -> Path:
    """Write driven episodes as a LeRobotDataset; where `out` is one already, they are appended to it.

    The new dataset is complete before it takes the old one's place. Raises `BadInput` without episodes.
    """
    import shutil

    from vqbet_course.datasets.source import Episode, Source
    from vqbet_course.datasets.writer import write_dataset
    from vqbet_course.tasks import open_source

    if not episodes:
        raise BadInput("no episode to write: solve one first")
    whole, old = out.with_name(f".{out.name}.whole"), out.with_name(f".{out.name}.old")
    if old.exists() and not out.exists():  # killed between two renames
        old.rename(out)
    before = list(open_source(str(out)).sound_episodes()) if out.exists() else []
    names = [name for name in episodes[0] if all(name in episode.numbers for episode in before)]
    numbers = [{name: episode[name] for name in names} for episode in [*(e.numbers for e in before), *episodes]]
    task = get_task(DEFAULT_TASK)
    contract = task.contract.data
    every = [Episode(episode, f"driven episode {number}") for number, episode in enumerate(numbers)]
    taken = any(episode["intervention"].any() for episode in numbers)
    source = Source(
        str(out),
        "driven by hand",
        len(every),
        lambda start: iter(every[start:]),
        contract.fps,
        units=contract.units(),
        task=task.instruction,
        robot="2d pointer",
        operator=f"a policy, and where `intervention` is 1: {OPERATOR}" if taken else OPERATOR,
    )
    with in_plain_words(out):
        shutil.rmtree(whole, ignore_errors=True)
        write_dataset(source, whole, quiet=quiet)
        if out.exists():
            out.rename(old)
        whole.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    return out


def drive_explorer(drive: Drive, out: Path) -> "VBox":
    """A board to drag the pusher over, 10 steps a second; time is paused while nobody drives.

    `save_driven` says where episodes go. With a policy in `drive`, a button lets it drive, and the hand takes over
    while it drags. By keyboard: the arrow keys drive, Escape stops.
    """
    import ipywidgets

    driven = DriveBoard(drive, out)
    box = ipywidgets.VBox([ipywidgets.HBox(driven.buttons), driven.board, driven.words])
    return with_picture(box, lambda: as_image(plot_drive(drive), driven.name))


class DriveBoard:
    """The canvas and the buttons of `drive_explorer`, and what happens when they are used."""

    name = "The board: drag the pusher, or drive with the arrow keys; Escape stops"
    beside = below = 0  # pixels of the canvas right of the board and below it

    def __init__(self, drive: Drive, out: Path):
        import ipywidgets
        from ipycanvas import Canvas

        self.drive, self.out, self.paused = drive, out, False
        width, height = SIDE + self.beside, SIDE + self.below
        layout = {"width": f"{width}px", "height": f"{height}px", "grid_area": "1 / 1"}
        self.canvas = Canvas(width=width, height=height, layout=layout)
        self.canvas.words = self.name
        self.still = ipywidgets.HTML(layout={"grid_area": "1 / 1"})  # seen where a reopened page has an empty canvas
        self.board = ipywidgets.GridBox([self.still, self.canvas], layout={"flex": "0 0 auto"})
        self.again = ipywidgets.Button(description="new start")
        self.policy = ipywidgets.ToggleButton(description="let the policy drive")
        self.buttons = [self.again] if drive.run is None else [self.again, self.policy]
        self.words = ipywidgets.HTML()
        self.driving: asyncio.Task[None] | None = None
        self.canvas.on_mouse_down(self.drag)
        self.canvas.on_mouse_move(self.move)
        self.canvas.on_mouse_up(self.release)
        self.canvas.on_key_down(self.key)
        leave_by_tab(self.canvas)
        self.again.on_click(self.begin)
        self.policy.observe(self.wake, names="value")
        self.show()

    def drag(self, x: float, y: float) -> None:
        """Send the pusher to a point of the canvas. The mouse keeps its grip where it leaves the board."""
        scale = self.drive.scene.size / SIDE
        self.drive.target = (x * scale, y * scale)
        self.wake()

    def move(self, x: float, y: float) -> None:
        """Send the pusher to where the mouse is, while it is dragged."""
        if self.drive.target is not None:
            self.drag(x, y)

    def release(self, x: float = 0, y: float = 0) -> None:
        """Send the pusher nowhere."""
        self.drive.target = None

    def key(self, name: str, *_: Any) -> None:
        """Drive by an arrow key; Escape stops."""
        if name in ARROWS:
            x, y = np.array(self.drive.target or self.drive.seen["agent_pos"]) + STRIDE * np.array(ARROWS[name])
            self.drive.target = (float(x), float(y))
            self.wake()
        elif name == "Escape":
            self.release()

    def show(self, problem: str = "") -> None:
        """Draw the board, and say below how it goes, or the problem."""
        from ipycanvas import hold_canvas

        with hold_canvas():
            draw_board_on(self.canvas, self.drive.scene, self.drive.target)
        self.draw_still()
        self.say(problem or self.drive.describe())

    @property
    def busy(self) -> bool:
        """Whether somebody drives."""
        return self.drive.target is not None or bool(self.policy.value)

    def draw_still(self) -> None:
        """Draw the board below the canvas, unless somebody drives: a page that is reopened shows it."""
        from matplotlib.figure import Figure

        if not self.busy:
            with young_figures():
                figure = Figure(figsize=(SIDE / DPI, SIDE / DPI))
                self.draw_into(figure.add_axes((0.003, 0.003, 0.994, 0.994)))
                self.still.value = as_image(figure, "the board")

    def draw_into(self, ax: "Axes") -> None:
        """Draw what the canvas shows into axes."""
        draw_scene(ax, self.drive.scene)

    def say(self, words: str) -> None:
        """Say something below the board; screen readers read it."""
        self.words.value = f'<div role="status">{html.escape(words)}</div>'

    def begin(self, _: Any = None) -> None:
        """Save what was driven and start the next episode."""
        self.stop()
        self.drive.start(self.drive.seed + 1)
        self.save()

    def stop(self) -> None:
        """Let nobody drive."""
        self.release()
        self.policy.value = self.paused = False

    def save(self, news: str = "") -> None:
        """Save the driven episodes, and say the news, or what went wrong."""
        try:
            save_driven(self.drive, self.out)
        except BadInput as error:
            news = str(error)
        self.show(news)

    def pause(self) -> None:
        """Save an episode that is over and wait: the next one starts when somebody drives."""
        kept = self.drive.solved or self.drive.unsolved
        solved = self.drive.results[-1]["success"]
        self.stop()
        self.paused = True
        where = self.out if solved else self.out.with_name(f"{self.out.name}-unsolved")
        news = f"{'Solved' if solved else 'Not solved'}{f', saved to {where}' if kept else ''}. "
        self.save(f"{news}Drive on or press new start. {self.drive.describe()}")

    def wake(self, _: Any = None) -> None:
        """Let time run, unless it does; after an episode that is over, start the next one."""
        if self.paused and (self.drive.target is not None or self.policy.value):
            self.paused = False
            self.drive.start(self.drive.seed + 1)
        if self.driving is None or self.driving.done():
            self.driving = asyncio.ensure_future(self.go())

    async def go(self) -> None:
        """Step at the rate of the task for as long as somebody drives; a late step is not followed by hurried ones."""
        due, period = time.monotonic(), 1 / self.drive.task.contract.data.fps
        while self.drive.target is not None or self.policy.value:
            if self.drive.step():
                self.pause()
            else:
                self.show()
            due = max(due + period, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        self.draw_still()


ARROWS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0), "ArrowUp": (0, -1), "ArrowDown": (0, 1)}


def save_driven(drive: Drive, out: Path) -> None:
    """Append solved episodes to `out` and others to `out`-unsolved; how all went is in `out`-results.json."""
    for episodes, place in ((drive.solved, out), (drive.unsolved, out.with_name(f"{out.name}-unsolved"))):
        if episodes:
            write_driven(episodes, place)
            episodes.clear()
    if drive.results:
        write_json(out.with_name(f"{out.name}-results.json"), {"episodes": drive.results})


def draw_board_on(canvas: Any, scene: "Scene", target: tuple[float, float] | None = None) -> None:
    """The board on SIDE x SIDE pixels of a canvas: goal, T, pusher, and where the hand points."""
    scale = SIDE / scene.size
    canvas.fill_style = "white"
    canvas.fill_rect(0, 0, SIDE, SIDE)
    for points, colour in ((scene.goal, "#BFE5D8"), (scene.block, "#999999")):
        canvas.fill_style = colour
        canvas.fill_polygon((points * scale).tolist())
    canvas.fill_style = DEMO
    canvas.fill_circle(*(scene.pusher * scale), scene.radius * scale)
    if target is not None:
        canvas.fill_style = FAILURE
        canvas.fill_circle(target[0] * scale, target[1] * scale, 4)
    canvas.stroke_style = "black"
    canvas.stroke_rect(0, 0, SIDE, SIDE)


def plot_drive(drive: Drive) -> "Figure":
    """The board as a static figure, with the pusher's path so far; steps of the hand are crosses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4))
    ax = figure.subplots()
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.92)
    draw_scene(ax, drive.scene)
    if drive.rows:
        way, human = (np.array([row[i] for row in drive.rows]) for i in (1, 3))
        ax.plot(*way.T, "-", color="0.5", linewidth=1)
        for steps, style, colour, name in ((~human, ".", POLICY, "the policy"), (human, "x", FAILURE, "the hand")):
            if steps.any():
                ax.plot(*way[steps].T, style, color=colour, markersize=5, label=name)
        ax.legend(loc="upper right")
    ax.set_title(f"seed {drive.seed}, step {len(drive.rows)}, {drive.task.progress_name} {drive.coverage:.2f}")
    return figure
