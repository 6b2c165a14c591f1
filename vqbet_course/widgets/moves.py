"""Token to motion: a pair of codes, the chunk that it decodes to, and how far the offset can move that chunk."""

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

from vqbet_course.core.errors import BadInput
from vqbet_course.core.palette import CODE
from vqbet_course.widgets.frames import FrameControl, with_frames
from vqbet_course.widgets.pairs import draw_pairs
from vqbet_course.widgets.parts import as_image, clickable, draw_board, explorer, on_image, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure
    from torch import Tensor

    from vqbet_course.demos import Demos
    from vqbet_course.training.runs import Run

EVERY = 8  # chunk of the demonstrations is looked at
AROUND = 140  # pixels of the board on every side of the pusher
COMMON = 32  # pairs, of which pages without a kernel show the move
SHOWN = 60  # chunks behind a code's own


@dataclass(frozen=True)
class Moves:
    """The vocabulary of a run on demonstrations, in pixels from the pusher: decoded (K, K, W, 2) of all pairs, and of M
    windows the chunks (M, W, 2), their codes (M, 2), the offsets (M, W, 2) predicted for those codes, the keypoints
    (M, 8, 2) and the pusher (M, 2)."""

    decoded: "Tensor"
    chunks: "Tensor"
    codes: "Tensor"
    offsets: "Tensor"
    corners: "Tensor"
    pusher: "Tensor"

    @property
    def counts(self) -> "Tensor":
        """How often each pair occurs, (K, K)."""
        import torch

        K = len(self.decoded)
        return torch.bincount(self.codes[:, 0] * K + self.codes[:, 1], minlength=K * K).view(K, K)

    @property
    def commonest(self) -> tuple[int, int]:
        """The pair that occurs most."""
        primary, secondary = divmod(int(self.counts.argmax()), len(self.decoded))
        return primary, secondary


def moves_of(run: "Run", demos: "Demos") -> Moves:
    """The vocabulary of a run on PushT demonstrations. Raises `BadInput` unless there are two layers of codes and
    actions are relative to the pusher."""
    import torch

    from vqbet_course.demos import make_windows

    c, network, normalizer = run.policy.config, run.policy.eval().network, run.normalizer
    keypoints = "observation.environment_state" in c.observation_sizes
    if c.vqvae_n_layers != 2 or not c.use_relative_actions or not keypoints:
        raise BadInput("only PushT policies with two layers of codes and relative actions can be drawn")
    windows = make_windows(demos, normalizer, c.n_obs_steps, c.n_queries, c.action_chunk_size, relative=True)
    rows, now = windows.observation_index[::EVERY], windows.chunk_index[::EVERY, c.n_obs_steps - 1]
    low, high = normalizer.bounds["action"]
    unit = (high - low) / 2  # (2,) pixels
    pairs = torch.cartesian_prod(torch.arange(c.vqvae_n_embed), torch.arange(c.vqvae_n_embed))
    with torch.no_grad():
        chunks, codes = windows.chunks[now], network.vqvae.encode(windows.chunks[now])
        seen = {name: values[rows] for name, values in windows.observation.items()}
        features = network.answers(network.encode(seen))[:, -1]
        offsets, decoded = network.offset_head(features, codes), network.vqvae.decode(pairs)
    last = rows[:, -1].numpy()
    corners, pusher = (
        torch.from_numpy(demos.observation[name][last])
        for name in ("observation.environment_state", "observation.state")
    )
    return Moves(
        (decoded * unit).unflatten(0, (c.vqvae_n_embed, -1)),
        chunks * unit,
        codes,
        offsets * unit,
        corners.view(-1, 8, 2),
        pusher,
    )


def plot_move(moves: Moves, primary: int, secondary: int) -> "Figure":
    """The pair's place in the heat map; its chunk (orange) on a board where a demonstration used it, the
    demonstrations' chunks of the same pair (grey), and circles that hold 95 % of the offsets predicted for it.

    Raises `BadInput` for codes that are not there."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Rectangle

    K = len(moves.decoded)
    if not (0 <= primary < K and 0 <= secondary < K):
        raise BadInput(f"codes {primary} and {secondary}: choose from 0..{K - 1}")
    mine = ((moves.codes[:, 0] == primary) & (moves.codes[:, 1] == secondary)).nonzero().flatten()
    figure = Figure(figsize=(9, 4.2))
    grid, board = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.12, top=0.9, wspace=0.1)
    draw_pairs(grid, moves.counts)
    grid.add_patch(Rectangle((secondary - 0.5, primary - 0.5), 1, 1, fill=False, edgecolor=CODE, linewidth=3))
    grid.set_title(f"the pair ({primary}, {secondary}): {len(mine)} of {len(moves.codes)} chunks")
    example = int(mine[len(mine) // 2]) if len(mine) else 0
    start = moves.pusher[example].numpy()
    draw_board(board, moves.corners[example].numpy(), start)
    board.set(xlim=(start[0] - AROUND, start[0] + AROUND), ylim=(start[1] + AROUND, start[1] - AROUND))
    behind = mine[:: max(1, len(mine) // SHOWN)]
    chunks = list(moves.chunks[behind].numpy() + start)
    board.add_collection(LineCollection(chunks, colors="0.35", alpha=0.4, linewidths=0.8))
    path, reach = moves.decoded[primary, secondary].numpy() + start, 0.0
    if len(mine):
        radii = moves.offsets[mine].norm(dim=-1).quantile(0.95, dim=0)
        reach = radii.max().item()
        for place, radius in zip(path, radii.tolist(), strict=True):
            board.add_patch(Circle(tuple(place), radius, facecolor=CODE, alpha=0.15))
    board.plot(*path.T, ".-", color=CODE)
    used = f"the offset reaches {reach:.0f} px" if len(mine) else "no demonstration uses it"
    board.set_title(f"its chunk; {used}")
    return figure


def move_explorer(moves: Moves) -> "VBox":
    """Sliders over the primary and the secondary code, which walk through the heat map; below, `plot_move`. A click on
    the heat map chooses its pair."""
    K = len(moves.decoded)

    def draw(primary: int, secondary: int) -> str:
        words = f"Heat map of code pairs and the chunk of the pair ({primary}, {secondary}) on the board"
        return as_image(plot_move(moves, primary, secondary), words)

    likely, next_likely = moves.commonest
    primary, secondary = slider("primary code", K - 1, likely), slider("secondary code", K - 1, next_likely)
    grid = plot_move(moves, likely, next_likely).axes[0]

    def choose(x: float, y: float) -> None:
        column, row = (floor(place + 0.5) for place in on_image(grid, x, y))
        if 0 <= row < K and 0 <= column < K:
            primary.value, secondary.value = row, column

    def draw_pair(pair: tuple[int, int]) -> str:
        return draw(*pair)

    words = "Heat map of pairs: click a cell to choose its pair"
    box = clickable(explorer(draw, primary=primary, secondary=secondary), choose, words)
    common = [(int(pair) // K, int(pair) % K) for pair in moves.counts.flatten().argsort(descending=True)[:COMMON]]
    labels = [f"({first}, {second})" for first, second in common]
    return with_frames(box, draw_pair, {"pair": FrameControl("pair of codes, commonest first", common, labels, 0)})
