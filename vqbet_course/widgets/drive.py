"""Drive it yourself: push the T with the mouse, keep what you did as demonstrations, and take over from a policy."""
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.contract import PUSHT, BadInput
from vqbet_course.widgets.picture import BLUE, ORANGE, draw_board

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure

    from vqbet_course.train import Run

OPERATOR = "human, mouse"


@dataclass
class Drive:
    """One board that is driven, step by step, at the 10 Hz of PushT.

    A step goes where `target` (2,), in pixels, points while somebody drags; otherwise where the policy of `run` sends
    the pusher, or nowhere. Episodes that end in success go to `solved`, others to `unsolved`.
    """

    run: "Run | None" = None
    seed: int = 0
    target: tuple[float, float] | None = None
    solved: list[dict[str, np.ndarray]] = field(default_factory=list)
    unsolved: list[dict[str, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from vqbet_course.rollout import make_pusht

        self.env = make_pusht()
        self.start(self.seed)

    def start(self, seed: int) -> None:
        """Begin an episode from an environment seed; what ran before counts as unsolved."""
        import torch

        self.keep(self.unsolved)
        self.seed, self.coverage = seed, 0.0
        self.seen, _ = self.env.reset(seed=seed)
        self.rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, bool]] = []
        if self.run is not None:
            self.run.policy.eval().reset([torch.Generator().manual_seed(seed)])

    @property
    def interventions(self) -> int:
        """Steps of the running episode that were taken from the policy."""
        return sum(human for *_, human in self.rows) if self.run is not None else 0

    def step(self) -> bool:
        """One step of a tenth of a second; whether the episode is over. Nothing happens while nobody acts."""
        action = self.action()
        if action is None:
            return False
        state, corners = self.seen["agent_pos"], self.seen["environment_state"]
        self.rows.append((corners, state, action, self.target is not None))
        self.seen, _, over, _, info = self.env.step(action)
        self.coverage = info["coverage"]
        if over:
            self.keep(self.solved)
        elif over := len(self.rows) >= self.env.get_wrapper_attr("contract").horizon:
            self.keep(self.unsolved)
        return over

    def action(self) -> np.ndarray | None:
        """Where the pusher is sent, (2,) in pixels: by the hand if it drags, else by the policy."""
        from vqbet_course.rollout import act, observe

        if self.target is not None:
            if self.run is not None:
                self.run.policy.actions.clear()  # it looks anew when the hand lets go
            return np.clip(np.array(self.target, dtype=np.float64), 0, 512)
        if self.run is None:
            return None
        return act(self.run.policy, self.run.normalizer, observe([self.seen]))[0]

    def keep(self, episodes: list[dict[str, np.ndarray]]) -> None:
        """Move the running episode to `episodes`; one of a single step is no episode."""
        if len(rows := getattr(self, "rows", [])) > 1:
            corners, pusher, action, human = (np.array(column) for column in zip(*rows, strict=True))
            episodes.append({"observation.environment_state": corners.astype(np.float32),
                             "observation.state": pusher.astype(np.float32), "action": action.astype(np.float32),
                             "intervention": (human & (self.run is not None))[:, None].astype(np.int64)})
        self.rows = []


def write_driven(episodes: Sequence[dict[str, np.ndarray]], out: Path, quiet: bool = True) -> Path:
    """Write driven episodes as a LeRobotDataset; where `out` is one already, they are appended to it.

    The new dataset is complete before it takes the old one's place. Raises `BadInput` without episodes.
    """
    import shutil

    from vqbet_course.convert import open_source
    from vqbet_course.convert.source import Episode, Source
    from vqbet_course.convert.writer import write_dataset
    from vqbet_course.files import in_plain_words

    if not episodes:
        raise BadInput("no episode to write: solve one first")
    before: list[dict[str, np.ndarray]] = []
    if out.exists():
        before = [{name: episode.numbers[name] for name in episodes[0]} for episode in open_source(str(out)).sound_episodes()]
    every = [Episode(numbers, f"driven episode {number}") for number, numbers in enumerate([*before, *episodes])]
    units = {name: field.unit for name, field in PUSHT.observation.items()} | {"action": PUSHT.action.unit}
    source = Source(str(out), "driven by hand", len(every), lambda start: iter(every[start:]), PUSHT.fps, units=units,
                    task="Push the T onto its goal", robot="gym-pusht", operator=OPERATOR)
    whole, old = out.with_name(f".{out.name}.whole"), out.with_name(f".{out.name}.old")
    with in_plain_words(out):
        shutil.rmtree(whole, ignore_errors=True)
        write_dataset(source, whole, quiet=quiet)
        if out.exists():
            out.rename(old)
        whole.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    return out


def drive_explorer(drive: Drive, out: Path) -> "VBox":
    """A board to drag the pusher over, 10 steps a second; solved episodes are appended to `out`, others to `out`-unsolved.

    With a policy in `drive`, the hand takes over while it drags. By keyboard: the arrow keys drive, Escape lets go.
    """
    import asyncio

    import ipywidgets
    from ipycanvas import Canvas

    side = 384
    canvas = Canvas(width=side, height=side)
    words, running = ipywidgets.HTML(), {"on": True}
    kept = {"solved": 0, "unsolved": 0}
    again, stop = ipywidgets.Button(description="new start"), ipywidgets.Button(description="stop")

    def drag(x: float, y: float) -> None:
        drive.target = (x * 512 / side, y * 512 / side)

    def move(x: float, y: float) -> None:
        if drive.target is not None:
            drag(x, y)

    def release(x: float = 0, y: float = 0) -> None:
        drive.target = None

    def key(name: str, *_: Any) -> None:
        steps = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0), "ArrowUp": (0, -1), "ArrowDown": (0, 1)}
        if name in steps:
            here = np.array(drive.target or drive.seen["agent_pos"]) + 12 * np.array(steps[name])
            drive.target = (float(here[0]), float(here[1]))
        elif name == "Escape":
            release()

    def show() -> None:
        draw_drive(canvas, drive, side)
        words.value = (f"coverage {drive.coverage:.2f}, step {len(drive.rows)}, kept: {kept['solved']} solved, "
                       f"{kept['unsolved']} unsolved" + (f"; taken over: {drive.interventions} steps" if drive.run else ""))

    def begin(_: Any = None) -> None:
        drive.start(drive.seed + 1)
        save()

    def save() -> None:
        for kind, episodes, place in (("solved", drive.solved, out),
                                      ("unsolved", drive.unsolved, out.with_name(f"{out.name}-unsolved"))):
            if episodes:
                write_driven(episodes, place)
                kept[kind] += len(episodes)
                episodes.clear()

    async def loop() -> None:
        while running["on"]:
            if drive.step():
                release()
                begin()
            show()
            await asyncio.sleep(1 / PUSHT.fps)

    canvas.on_mouse_down(drag)
    canvas.on_mouse_move(move)
    canvas.on_mouse_up(release)
    canvas.on_mouse_out(release)
    canvas.on_key_down(key)
    again.on_click(begin)
    stop.on_click(lambda _: running.update(on=False))
    show()
    asyncio.ensure_future(loop())
    return ipywidgets.VBox([ipywidgets.HBox([again, stop]), canvas, words])


def draw_drive(canvas: Any, drive: Drive, side: int) -> None:
    """The board on a canvas of `side` x `side` pixels: goal, T, pusher, and where the hand points."""
    from ipycanvas import hold_canvas

    from vqbet_course.pusht import AROUND, GOAL_POSE, OUTLINE, PUSHER_RADIUS, SIZE, to_world

    scale = side / SIZE
    corners = drive.seen["environment_state"].reshape(8, 2)[AROUND]
    with hold_canvas(canvas):
        canvas.fill_style = "white"
        canvas.fill_rect(0, 0, side, side)
        for points, colour in ((to_world(OUTLINE, GOAL_POSE[None])[0], "#BFE5D8"), (corners, "#999999")):
            canvas.fill_style = colour
            canvas.fill_polygon((points * scale).tolist())
        canvas.fill_style = BLUE
        canvas.fill_circle(*(drive.seen["agent_pos"] * scale), PUSHER_RADIUS * scale)
        if drive.target is not None:
            canvas.fill_style = ORANGE
            canvas.fill_circle(drive.target[0] * scale, drive.target[1] * scale, 4)
        canvas.stroke_rect(0, 0, side, side)


def plot_drive(drive: Drive) -> "Figure":
    """The same board as a picture, with the pusher's way so far: the static twin of `drive_explorer`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4))
    ax = figure.subplots()
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.92)
    draw_board(ax, drive.seen["environment_state"].reshape(8, 2), drive.seen["agent_pos"])
    if drive.rows:
        ax.plot(*np.array([pusher for _, pusher, *_ in drive.rows]).T, ".-", color=ORANGE, markersize=3)
    ax.set_title(f"environment seed {drive.seed}, step {len(drive.rows)}, coverage {drive.coverage:.2f}")
    return figure
