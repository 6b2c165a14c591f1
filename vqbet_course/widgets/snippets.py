"""Token to demonstrations: a pair of codes on a map of the latent space, and the demonstrations that use it, in motion."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.errors import BadInput
from vqbet_course.core.palette import CODE, DEMO, FAILURE, OTHER
from vqbet_course.widgets.moves import Moves, moves_of
from vqbet_course.widgets.parts import as_image, choice, clickable, draw_board, explorer, on_image, played, slider

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from vqbet_course.demos import Demos
    from vqbet_course.training.runs import Run

WALK = 4  # chunks between one pair and the next
NEAR = 90  # pixels of the board around the pusher
Pair = tuple[int, int]


@dataclass(frozen=True)
class Snippets:
    """Where chunks lie in the latent space of a run, on a map of its two directions of largest variance.

    moves: the vocabulary and the demonstrations' chunks; places (M, 2) of these chunks and pair_places (K, K, 2) of the
    pairs on the map; pairs: those in use, commonest first; walks {pair: (WALK + 1, W, 2)}: the chunks, in pixels, on the
    straight line in the latent space from a pair to the next one in `pairs`.
    """

    moves: Moves
    places: "Tensor"
    pair_places: "Tensor"
    pairs: "list[Pair]"
    walks: "dict[Pair, Tensor]"

    def using(self, pair: "Pair", n: int = 4) -> list[int]:
        """Rows of n demonstrated chunks whose codes are this pair, evenly spaced; fewer where there are fewer."""
        rows = ((self.moves.codes[:, 0] == pair[0]) & (self.moves.codes[:, 1] == pair[1])).nonzero().flatten()
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int))
        return [int(rows[i]) for i in chosen]


def snippets_of(run: "Run", demos: "Demos") -> Snippets:
    """Where the chunks of PushT demonstrations lie in the latent space of a run. Raises `BadInput` as `moves_of` does."""
    import torch

    moves, vqvae = moves_of(run, demos), run.policy.network.vqvae.eval()
    K, unit = len(moves.decoded), run.normalizer.unit("action")
    every = torch.cartesian_prod(torch.arange(K), torch.arange(K))
    with torch.no_grad():
        latents, of_pairs = vqvae.embed(moves.chunks / unit), vqvae.vq.lookup(every)
        middle = latents.mean(0)
        _, _, directions = torch.linalg.svd(latents - middle, full_matrices=False)
        flat = directions[:2].T
        order = moves.counts.flatten().argsort(descending=True)
        order = order[moves.counts.flatten()[order] > 0]
        pairs = [(int(i) // K, int(i) % K) for i in order]
        part = torch.linspace(0, 1, WALK + 1)[:, None]
        ends = of_pairs[order.roll(-1)]
        walks = {
            pair: vqvae.decoder(torch.lerp(start, end, part)).unflatten(1, (-1, 2)) * unit
            for pair, start, end in zip(pairs, of_pairs[order], ends, strict=True)
        }
    return Snippets(moves, (latents - middle) @ flat, ((of_pairs - middle) @ flat).view(K, K, 2), pairs, walks)


def next_pair(snippets: Snippets, pair: "Pair") -> "Pair":
    """The pair to which the walk from this one leads."""
    at = snippets.pairs.index(pair)
    return snippets.pairs[(at + 1) % len(snippets.pairs)]


def draw_map(ax: "Axes", snippets: Snippets, pair: "Pair", walked: int) -> None:
    """The map of the latent space: chunks (grey), those of the pair (blue), all pairs (orange), and the walk (red)."""
    mine = (snippets.moves.codes == snippets.moves.codes.new_tensor(pair)).all(1)
    ax.plot(*snippets.places[~mine].T, ".", color="0.8", markersize=2)
    ax.plot(*snippets.places[mine].T, ".", color=DEMO, markersize=3)
    used = np.array([snippets.pair_places[one].tolist() for one in snippets.pairs])
    ax.plot(*used.T, "o", color=CODE, markersize=5, markeredgecolor="black", markeredgewidth=0.5)
    start, end = (snippets.pair_places[one].numpy() for one in (pair, next_pair(snippets, pair)))
    ax.plot(*np.stack([start, end]).T, color=FAILURE, linewidth=1.5)
    ax.plot(*(start + (end - start) * walked / WALK), "D", color=FAILURE)
    ax.set(xticks=(), yticks=(), xlabel="latent space: first direction", ylabel="second direction")


def plot_snippets(snippets: Snippets, pair: "Pair", moment: int, walked: int = 0) -> "Figure":
    """The pair on the map of the latent space; the chunk on the walk to the next pair; and demonstrations that use the
    pair, `moment` actions after they begin. Raises `BadInput` for a pair that no demonstration uses."""
    from matplotlib.figure import Figure

    if pair not in snippets.walks:
        raise BadInput(f"no demonstration uses the pair {pair}: choose from {snippets.pairs}")
    rows = snippets.using(pair)
    figure = Figure(figsize=(9, 4.6))
    left = figure.add_gridspec(2, 1, height_ratios=[2, 1], left=0.05, right=0.46, top=0.93, bottom=0.08, hspace=0.35)
    world = figure.add_subplot(left[0])
    draw_map(world, snippets, pair, walked)
    world.set_title(f"pair {pair[0]}·{pair[1]}: {int(snippets.moves.counts[pair])} of {len(snippets.places)} chunks")
    chunk = figure.add_subplot(left[1])
    for path, color in ((snippets.moves.decoded[pair], CODE), (snippets.walks[pair][walked], FAILURE)):
        chunk.plot(*np.vstack([np.zeros(2), path.numpy()]).T, ".-", color=color)
    reach = snippets.moves.decoded.abs().max().item()
    chunk.set(xlim=(-1.8 * reach, 1.8 * reach), ylim=(0.8 * reach, -0.8 * reach), aspect="equal", xticks=(), yticks=())
    after = "·".join(map(str, next_pair(snippets, pair)))
    chunk.set_title(f"its chunk, and {walked} of {WALK} on the way to {after}", fontsize=9)
    boards = figure.add_gridspec(2, 2, left=0.5, right=0.99, top=0.93, bottom=0.02, wspace=0.05, hspace=0.12)
    for i, row in enumerate(rows):
        draw_snippet(figure.add_subplot(boards[i // 2, i % 2]), snippets.moves, row, moment)
    figure.axes[2].set_title(f"demonstrations, after {moment} actions", fontsize=9)
    return figure


def draw_snippet(ax: "Axes", moves: Moves, row: int, moment: int) -> None:
    """The board around the pusher where a demonstrated chunk begins, with the pusher after `moment` of its actions."""
    start = moves.pusher[row].numpy()
    path = np.vstack([np.zeros(2), moves.chunks[row].numpy()]) + start
    draw_board(ax, moves.corners[row].numpy(), path[min(moment, len(path) - 1)])
    ax.plot(*path.T, color=OTHER, linewidth=1)
    ax.plot(*path[: moment + 1].T, ".-", color=DEMO)
    ax.set(xlim=(start[0] - NEAR, start[0] + NEAR), ylim=(start[1] + NEAR, start[1] - NEAR))


def snippet_explorer(snippets: Snippets) -> "VBox":
    """Sliders over the pairs in use, the walk to the next pair and the moment, and a button that plays in a loop; below,
    `plot_snippets`. A click on the map chooses the nearest pair."""
    names = {f"{primary}·{secondary}": (primary, secondary) for primary, secondary in snippets.pairs}

    def draw(pair: str, walked: int, moment: int) -> str:
        figure = plot_snippets(snippets, names[pair], moment, walked)
        return as_image(figure, f"The pair {pair} on the map of the latent space, and demonstrations that use it")

    first = next(iter(names))
    pair = choice("token pair", list(names), first)
    W = snippets.moves.chunks.shape[1]
    moment = slider("actions", W)
    ahead: dict[str, Any] = {"pair": list(names)[:8], "walked": [0], "moment": range(W + 1)}
    world = plot_snippets(snippets, snippets.pairs[0], 0).axes[0]

    def choose(x: float, y: float) -> None:
        spot = np.array(on_image(world, x, y))
        places = np.array([snippets.pair_places[one].tolist() for one in snippets.pairs])
        pair.value = list(names)[int(np.linalg.norm(places - spot, axis=1).argmin())]

    box = explorer(draw, ahead, pair=pair, walked=slider("walk", WALK), moment=moment)
    words = "Map of the latent space: click a pair to choose it"
    return played(clickable(box, choose, words), moment, interval=400, loop=True)
