"""The explorers: they show what they should, quickly, from the keyboard, and leave no figure open."""
import subprocess
import sys
import time

import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, PathCollection

from vqbet_course.contract import BadInput
from vqbet_course.tokens import kmeans, nearest_code
from vqbet_course.widgets import DEAD, plot_token_usage, token_usage_explorer

CHUNKS = 50 * torch.randn(400, 4, 2, generator=torch.Generator().manual_seed(0))


def codebook_of(K):
    return kmeans(CHUNKS.flatten(1), K, 5, torch.Generator().manual_seed(0)).view(K, 4, 2)


@pytest.fixture(scope="module")
def explorer():
    return token_usage_explorer({str(K): codebook_of(K) for K in (4, 16)}, CHUNKS, start="16")


def test_the_static_picture_shows_every_code_and_its_share():
    codebook = torch.cat([codebook_of(8), torch.full((1, 4, 2), 1e4)])  # the last is dead
    tokens = nearest_code(CHUNKS.flatten(1), codebook.flatten(1))
    bars, moves = plot_token_usage(codebook, tokens).axes
    heights = [bar.get_height() for bar in bars.patches]  # most used first
    shares = torch.bincount(tokens, minlength=9).sort(descending=True).values * 100 / 400
    assert heights == pytest.approx(shares.tolist())
    assert bars.get_title().startswith("8 of 9 codes used, 1 dead, perplexity")
    crosses = [line for line in bars.lines if line.get_marker() == "x"]
    assert [line.get_color() for line in crosses] == [DEAD] and list(crosses[0].get_xdata()) == [8]
    lines = next(c for c in moves.collections if isinstance(c, LineCollection))
    paths, dashed = lines.get_segments(), [dashes is not None for _, dashes in lines.get_linestyle()]
    assert [tuple(path[-1]) == (1e4, 1e4) for path in paths] == dashed  # the dead code, and it alone
    ends = next(c for c in moves.collections if isinstance(c, PathCollection)).get_offsets()
    assert len(paths) == len(ends) == 9
    assert all((path[0] == 0).all() for path in paths)  # from the pusher
    assert {tuple(end) for end in ends.tolist()} == {tuple(code) for code in codebook[:, -1].tolist()}


def test_moving_the_slider_changes_picture_and_words(explorer):
    slider, picture = explorer.children
    assert picture.value.startswith("<img alt=") and "16 of 16 codes used" in picture.value
    slider.value = "4"
    assert "4 of 4 codes used" in picture.value
    slider.value = "16"
    assert "16 of 16 codes used" in picture.value


def test_a_redraw_takes_less_than_100_ms_and_leaves_no_figure_open(explorer):
    slider, _ = explorer.children
    figures = plt.get_fignums()
    start = time.process_time()
    for turn in range(200):
        slider.value = ("4", "16")[turn % 2]
    assert (time.process_time() - start) / 200 < 0.1
    assert plt.get_fignums() == figures


def test_the_explorer_is_a_native_slider(explorer):
    """JupyterLab's own slider takes the focus by Tab and moves by the arrow keys."""
    slider, _ = explorer.children
    assert slider._view_name == "SelectionSliderView" and not slider.disabled
    assert list(slider.options) == ["4", "16"] and slider.value in slider.options


@pytest.mark.parametrize("call, says", [
    (lambda: token_usage_explorer({}, CHUNKS), "no codebooks"),
    (lambda: token_usage_explorer({"4": codebook_of(4)}, CHUNKS, start="5"), "choose from 4"),
    (lambda: token_usage_explorer({"4": codebook_of(4)[:, :3]}, CHUNKS), "must agree"),
    (lambda: plot_token_usage(CHUNKS.flatten(1), torch.tensor([0])), r"expected \(K, W, A\)"),
])
def test_bad_input_is_one_line(call, says):
    with pytest.raises(BadInput, match=says) as error:
        call()
    assert "\n" not in str(error.value)


def test_importing_the_module_loads_nothing_heavy():
    code = "import sys, vqbet_course.widgets; print({'torch', 'matplotlib', 'ipywidgets'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
