"""The explorers: they show what they should, quickly, from the keyboard, and leave no figure open."""

import gc
import re
import subprocess
import sys
from typing import Any

import ipywidgets
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vqbet_course import widgets
from vqbet_course.core.errors import BadInput
from vqbet_course.demos import Demos, load_demos
from vqbet_course.policy import token_sequence
from vqbet_course.residual_vq import ResidualVQ
from vqbet_course.tasks import open_source
from vqbet_course.tokens import kmeans, nearest_code
from vqbet_course.training.runs import Run, load_run
from vqbet_course.widgets import DEAD, plot_token_usage, token_usage_explorer
from vqbet_course.widgets.frames import MOST, SWITCH, FrameControl, thin_controls
from vqbet_course.widgets.parts import DPI

CHUNKS = 50 * torch.randn(400, 4, 2, generator=torch.Generator().manual_seed(0))


def codebook_of(K: int) -> Any:
    return kmeans(CHUNKS.flatten(1), K, 5, torch.Generator().manual_seed(0)).view(K, 4, 2)


@pytest.fixture(scope="module")
def explorer() -> Any:
    return token_usage_explorer({str(K): codebook_of(K) for K in (4, 16)}, CHUNKS, start="16")


def test_the_static_picture_shows_every_code_and_its_share() -> None:
    codebook = torch.cat([codebook_of(8), torch.full((1, 4, 2), 1e4)])  # the last is dead
    tokens = nearest_code(CHUNKS.flatten(1), codebook.flatten(1))
    axes: Any = plot_token_usage(codebook, tokens).axes
    bars, moves = axes
    heights = [top for _, (_, top) in bars.collections[0].get_segments()]  # most used first
    shares = torch.bincount(tokens, minlength=9).sort(descending=True).values * 100 / 400
    assert heights == pytest.approx(shares.tolist())
    assert bars.get_title().startswith("8 of 9 codes used, 1 dead, perplexity")
    crosses = [line for line in bars.lines if line.get_marker() == "x"]
    assert [line.get_color() for line in crosses] == [DEAD] and list(crosses[0].get_xdata()) == [8]
    lines = next(c for c in moves.collections if isinstance(c, LineCollection))
    styles: Any = lines.get_linestyle()
    paths, dashed = lines.get_segments(), [dashes is not None for _, dashes in styles]
    assert [tuple(path[-1]) == (1e4, 1e4) for path in paths] == dashed  # the dead code, and it alone
    ends: Any = next(c for c in moves.collections if isinstance(c, PathCollection)).get_offsets()
    assert len(paths) == len(ends) == 9
    assert all((path[0] == 0).all() for path in paths)  # from the pusher
    assert {tuple(end) for end in ends.tolist()} == {tuple(code) for code in codebook[:, -1].tolist()}


def test_moving_the_slider_changes_picture_and_words(explorer: Any) -> None:
    slider, picture = explorer.children
    assert picture.value.startswith("<img alt=") and "16 of 16 codes used" in picture.value
    slider.value = "4"
    assert "4 of 4 codes used" in picture.value
    slider.value = "16"
    assert "16 of 16 codes used" in picture.value


def test_the_explorer_is_a_native_slider(explorer: Any) -> None:
    """JupyterLab's own slider takes the focus by Tab and moves by the arrow keys."""
    slider, _ = explorer.children
    assert slider._view_name == "SelectionSliderView" and not slider.disabled
    assert list(slider.options) == ["4", "16"] and slider.value in slider.options


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: token_usage_explorer({}, CHUNKS), "no codebooks"),
        (lambda: token_usage_explorer({"4": codebook_of(4)}, CHUNKS, start="5"), "choose from 4"),
        (lambda: token_usage_explorer({"4": codebook_of(4)[:, :3]}, CHUNKS), "must agree"),
        (lambda: plot_token_usage(CHUNKS.flatten(1), torch.tensor([0])), r"expected \(K, W, A\)"),
    ],
)
def test_bad_input_is_one_line(call: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says) as error:
        call()
    assert "\n" not in str(error.value)


# --- the explorers of code pairs, moves, decisions, layers and attention ------------------------------------------


@pytest.fixture(scope="module")
def run() -> Run:
    return load_run("shipped")


@pytest.fixture(scope="module")
def demos() -> Demos:
    return load_demos(open_source("demo")).select(list(range(20)))


@pytest.fixture(scope="module")
def moves(run: Any, demos: Any) -> Any:
    return widgets.moves_of(run, demos)


@pytest.fixture(scope="module")
def seen(demos: Any) -> Any:
    return {name: torch.from_numpy(values) for name, values in demos.select([3]).observation.items()}


@pytest.fixture(scope="module")
def mind(run: Any, seen: Any) -> Any:
    return widgets.mind_of(run, seen)


@pytest.fixture(scope="module")
def stack() -> Any:
    torch.manual_seed(0)
    rvq, x = ResidualVQ(3, 8, 8), CHUNKS.flatten(1)
    rvq(x)
    return rvq.eval()


def as_path(chunk: torch.Tensor) -> Any:
    return chunk.view(4, 2)


@pytest.fixture(scope="module")
def reading(run: Any, seen: Any) -> Any:
    """A row of tokens (T=2, D), as the shipped policy reads it."""
    network = run.policy.eval().network
    window = {name: run.normalizer.normalize(name, values)[10:12][None] for name, values in seen.items()}
    with torch.no_grad():
        return token_sequence(network.encode(window), network.action_query, 0)[0][0]


NAMES = ["observation before", "observation now"]


@pytest.fixture(scope="module")
def explorers(run: Any, moves: Any, mind: Any, stack: Any, reading: Any) -> Any:
    """All explorers, each with a control to move and the values to move it between."""
    tokens = moves.codes
    return {
        "pairs": (widgets.pair_usage_explorer({16: {0: tokens[:50], 9: tokens}}), 1, (0, 9)),
        "moves": (widgets.move_explorer(moves), 1, (2, 3)),
        "layers": (widgets.layers_explorer(stack, CHUNKS.flatten(1)[:5], as_path), 1, (1, 3)),
        "attention": (widgets.attention_explorer(run.policy.network.gpt, reading[None], NAMES), 2, (0, 1)),
    }


def picture_of(box: Any) -> Any:
    """The picture of an explorer; where it takes clicks, it lies below a canvas."""
    last = box.children[-1]
    return last.children[0] if isinstance(last, ipywidgets.Box) else last


def figures_alive(collect: bool = True) -> Any:
    if collect:
        gc.collect()
    return sum(type(thing) is Figure for thing in gc.get_objects())


@pytest.mark.parametrize("name", ["pairs", "moves", "layers", "attention"])
def test_every_explorer_redraws_in_words_and_pixels(name: str, explorers: Any) -> None:
    box, control, values = explorers[name]
    picture, moved = picture_of(box), box.children[control]
    figures, alive, shown = plt.get_fignums(), figures_alive(), set()
    for turn in range(8):
        moved.value = values[turn % 2]
        shown.add(picture.value)
        assert picture.value.startswith('<img alt="')
    assert len(shown) == 2, "each state has a picture of its own"
    assert plt.get_fignums() == figures
    assert figures_alive() == alive, "figures outlive their pictures"
    assert all(child._view_name.endswith(("SliderView", "PlayView")) for child in box.children[:-1])  # native, by Tab


def written(axis: Any, renderer: Any) -> Any:
    """Where the label of an axis and those of its ticks in view lie; what is out of view is not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [
        label
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high
        for label in (tick.label1, tick.label2)
        if label.get_visible()
    ]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in [*ticks, axis.label] if text.get_text()]


def pictures_of(run: Any, moves: Any, mind: Any, stack: Any, reading: Any) -> Any:
    """Every picture that explorers draw, in states where it holds most words."""
    names = ["observation before", "observation now"]
    drive, codebook = widgets.Drive(run, seed=200_000), codebook_of(16)
    drive.step()
    yield from (
        plot_token_usage(codebook, nearest_code(CHUNKS.flatten(1), codebook.flatten(1))),
        widgets.plot_pair_usage(moves.codes, 16),
        widgets.plot_pair_usage(moves.codes, 128),
        widgets.plot_move(moves, *moves.commonest),
        widgets.plot_move(moves, 7, 7),
        widgets.plot_panel(widgets.think(drive, 0, 1.0)),
        widgets.plot_cockpit(widgets.think(drive, 0, 1.0)),
        widgets.plot_layers(stack, CHUNKS[0].flatten(), as_path, 3),
        widgets.plot_attention(widgets.attention_weights(run.policy.network.gpt, reading), names, 0, 0),
        widgets.plot_drive(drive),
    )


def test_no_word_of_a_picture_is_cut_or_runs_into_another(
    run: Any, moves: Any, mind: Any, stack: Any, reading: Any
) -> None:
    for figure in pictures_of(run, moves, mind, stack, reading):
        figure.set_dpi(DPI)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        boxes = [
            box
            for ax in figure.axes
            for box in (
                (ax.get_title(), ax.title.get_window_extent(renderer)),
                *written(ax.xaxis, renderer),
                *written(ax.yaxis, renderer),
            )
            if box[0]
        ]
        for number, (words, box) in enumerate(boxes):
            assert 0 <= box.x0 and box.x1 <= figure.bbox.x1 and 0 <= box.y0 and box.y1 <= figure.bbox.y1, (
                f"{words} is cut"
            )
            for others, other in boxes[:number]:
                assert not box.overlaps(other), f"{words} lies on {others}"


def test_the_legend_of_the_pair_map_hides_no_bar(moves: Any) -> None:
    figure = widgets.plot_pair_usage(moves.codes, 16)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    bars = figure.axes[1]
    highest = max(top for lines in bars.collections for _, (_, top) in lines.get_segments())  # type: ignore[attr-defined]
    assert bars.transData.transform((0, highest))[1] < bars.get_legend().get_window_extent(renderer).y0


def test_two_hundred_redraws_leave_no_figure_behind() -> None:
    """Each explorer draws by `explorer`, and each of its pictures goes through `as_image`."""

    def draw(value: Any) -> Any:
        figure = Figure(figsize=(1, 1))
        figure.text(0.5, 0.5, str(value))
        return widgets.as_image(figure, "a number")

    box, alive = widgets.explorer(draw, value=ipywidgets.IntSlider(0, 0, 200)), figures_alive()
    for value in range(1, 201):
        box.children[0].value = value
    assert figures_alive(collect=False) == alive, "figures wait to be found by a search through all objects"
    assert not plt.get_fignums()


def test_the_pair_map_counts_what_was_said() -> None:
    codes = torch.tensor([[0, 1], [0, 1], [2, 2]])
    grid, bars = widgets.plot_pair_usage(codes, 3).axes
    assert grid.get_title().startswith("2 of 9 pairs in use")
    [image] = grid.images
    shown = image.get_array().filled(0)
    assert shown[0, 1] == 2 and shown[2, 2] == 1 and shown[1, 1] == 0
    assert "primary: 2 of 3 codes used, 1 dead" in bars.get_title()


def test_a_move_is_what_the_policy_decodes(run: Any, moves: Any) -> None:
    decoded = run.policy.network.vqvae.decode(torch.tensor([[3, 5]]))[0].detach()
    low, high = run.normalizer.bounds["action"]
    torch.testing.assert_close(moves.decoded[3, 5], decoded * (high - low) / 2)
    errors = [(moves.decoded[p, s] - chunk).norm(dim=-1).mean() for (p, s), chunk in zip(moves.codes, moves.chunks)]
    assert torch.stack(errors).mean() < 15  # pixels: the codes are those of the chunks
    grid, board = widgets.plot_move(moves, *moves.commonest).axes
    assert f"{moves.counts.max()} of {len(moves.codes)} chunks" in grid.get_title()
    primary, secondary = moves.commonest
    cell: Any = grid.patches[-1]
    assert (cell.get_y() + 0.5, cell.get_x() + 0.5) == (primary, secondary)


def test_a_click_on_the_heat_map_chooses_its_pair(moves: Any, explorers: Any) -> None:
    box, _, _ = explorers["moves"]
    primary, secondary, layers = box.children
    picture, canvas = layers.children
    assert f'width="{canvas.width}" height="{canvas.height}"' in picture.value  # one lies on the other
    figure = widgets.plot_move(moves, 3, 5)
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    for row, column in ((3, 5), (0, 0), (7, 7)):
        x, y = figure.axes[0].transData.transform((column, row))
        canvas._mouse_down_callbacks(x, canvas.height - y)
        assert (primary.value, secondary.value) == (row, column) and f"pair ({row}, {column})" in picture.value
    x, y = figure.axes[0].transData.transform((-1, 7))  # beside the map
    canvas._mouse_down_callbacks(x, canvas.height - y)
    assert (primary.value, secondary.value) == (7, 7)


def test_the_mind_says_what_the_policy_says(run: Any, seen: Any, mind: Any) -> None:
    run.policy.eval().reset([torch.Generator().manual_seed(0)])
    for step in (0, 1):  # two observations, as in its window
        run.policy.actions.clear()
        run.policy.select_action(
            {name: run.normalizer.normalize(name, values[step : step + 1]) for name, values in seen.items()}
        )
        torch.testing.assert_close(run.policy.decision.logits[0], mind.logits[step], atol=1e-4, rtol=1e-4)


def test_temperature_spreads_the_chunks_that_are_drawn(mind: Any) -> None:
    from vqbet_course.widgets.decisions import drawn_chunks

    step = int(torch.special.entr(mind.logits[:, 0].softmax(-1)).sum(-1).argmax())  # where the policy is least sure
    spread = [drawn_chunks(mind, step, temperature).std(dim=0).mean() for temperature in (0.0, 1.0)]
    assert spread[0] < 1e-3 < spread[1]


def test_chunks_are_drawn_in_the_frame_of_the_policy(
    run: Any, mind: Any, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vqbet_course.widgets.decisions import drawn_chunks

    step, frame = 5, run.policy.network.frame
    usual = drawn_chunks(mind, step, 0.0)

    class Shifted(type(frame)):  # type: ignore[misc]
        def to_absolute(self, decision: Any, observation: Any) -> Any:
            decision = super().to_absolute(decision, observation)
            return decision._replace(actions=decision.actions + 0.5)

    monkeypatch.setattr(run.policy.network, "frame", Shifted())
    low, high = run.normalizer.bounds["action"]
    torch.testing.assert_close(drawn_chunks(mind, step, 0.0), usual + (high - low) / 4, atol=0.01, rtol=1e-4)


def test_more_layers_leave_less(stack: Any) -> None:
    titles = [widgets.plot_layers(stack, CHUNKS[0].flatten(), as_path, g).axes[1].get_title() for g in (1, 3)]
    errors = [float(title.split(": ")[1].removesuffix(" px off")) for title in titles]
    assert titles[0].startswith("1 of 3 layers") and errors[1] < errors[0]


def test_a_bar_has_the_colour_of_its_path(stack: Any) -> None:
    paths, bars = widgets.plot_layers(stack, CHUNKS[0].flatten(), as_path, 2).axes
    drawn = [to_rgb(line.get_color()) for line in paths.lines[:2]]
    shown = [to_rgb(colour) for colour in bars.collections[0].get_colors()]  # type: ignore[attr-defined]
    assert shown == [*drawn, to_rgb("0.85")] and len(set(shown)) == 3


def test_attention_weights_are_those_of_the_network(run: Any, reading: Any) -> None:
    """Attention's own output, made again from the weights."""
    gpt = run.policy.network.gpt.eval()
    weights = widgets.attention_weights(gpt, reading)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    assert (weights.triu(1) == 0).all()
    with torch.no_grad():
        x = gpt.token_embedding(reading[None]) + gpt.position_embedding(torch.arange(len(reading)))
        block = gpt.blocks[0]
        normed = block.norm_attention(x)
        v = (
            block.attention.qkv(normed)[0]
            .chunk(3, dim=1)[2]
            .view(len(reading), gpt.blocks[0].attention.n_head, -1)
            .transpose(0, 1)
        )
        mixed = (weights[0] @ v).transpose(0, 1).reshape(1, len(reading), -1)
        torch.testing.assert_close(block.attention.out(mixed), block.attention(normed), atol=1e-5, rtol=1e-4)


def test_a_stored_explorer_carries_its_frames_for_pages_without_a_kernel(
    explorer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "text/html" not in explorer._repr_mimebundle_()
    monkeypatch.setenv(SWITCH, "1")
    box = token_usage_explorer({str(K): codebook_of(K) for K in (4, 16)}, CHUNKS, start="16")
    html = box._repr_mimebundle_()["text/html"]
    images = re.findall(r"<img [^>]*>", html)
    assert ["4 of 4 codes" in image for image in images] == [True, False]
    assert ["display: none" in image for image in images] == [True, False], "the start is shown"
    assert 'type="range" min="0" max="1" value="1"' in html and "http" not in re.sub(r"base64,[^\"]*", "", html)


def test_the_frames_of_moves_are_the_commonest_pairs(moves: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setattr("vqbet_course.widgets.moves.COMMON", 3)
    html = widgets.move_explorer(moves)._repr_mimebundle_()["text/html"]
    shown = [tuple(map(int, pair)) for pair in re.findall(r'<img alt="[^"]*chunk of the pair \((\d+), (\d+)\)', html)]
    counts = [int(moves.counts[pair]) for pair in shown]
    assert len(set(shown)) == 3 and counts == sorted(moves.counts.flatten().tolist())[:-4:-1]


@pytest.mark.fast
def test_frames_are_few_and_the_first_shown_is_among_them() -> None:
    steps = FrameControl("step", range(200), [str(step) for step in range(200)], 77)
    heat = FrameControl("temperature", [0.1, 1.0], ["0.1", "1.0"], 1)
    thin, kept = thin_controls([steps, heat])
    assert len(thin.values) == MOST // 2 and thin.values[thin.start] == 77 and kept == heat
    assert thin.values[0] == 0 and thin.values[-1] == 199 and list(thin.labels) == [str(v) for v in thin.values]


EMPTY = torch.zeros(0)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda f: widgets.plot_pair_usage(torch.zeros(3, 1).long(), 4), r"expected \(N, 2\)"),
        (lambda f: widgets.pair_usage_explorer({}), "no snapshots"),
        (lambda f: widgets.pair_usage_explorer({4: {0: EMPTY}, 8: {1: EMPTY}}), "same training steps"),
        (lambda f: widgets.pair_usage_explorer({4: {0: EMPTY}, 8: {0: EMPTY}}, start=5), "choose from 4, 8"),
        (lambda f: widgets.plot_move(f("moves"), 16, 0), "choose from 0..7"),
        (lambda f: widgets.think(widgets.Drive(f("run")), 10**6, 1.0), "choose from 0..0"),
        (lambda f: widgets.think(widgets.Drive(), 0, 1.0), "give the drive a run"),
        (lambda f: widgets.mind_of(f("run"), {}), "only PushT"),
        (lambda f: widgets.plot_layers(f("stack"), CHUNKS[0].flatten(), as_path, 9), "choose from 1..3"),
        (lambda f: widgets.plot_attention(torch.zeros(1, 2, 2, 2), NAMES, 1, 0), "choose from"),
    ],
)
def test_bad_input_of_the_explorers_is_one_line(call: Any, says: str, request: Any) -> None:
    with pytest.raises(BadInput, match=says) as error:
        call(request.getfixturevalue)
    assert "\n" not in str(error.value)


def test_importing_the_module_loads_nothing_heavy() -> None:
    code = "import sys, vqbet_course.widgets; print({'torch', 'matplotlib', 'ipywidgets'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
