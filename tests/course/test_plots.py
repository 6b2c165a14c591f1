"""What the lessons draw with: colours that all can tell apart, y downwards, only numpy and matplotlib beneath."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.text import Annotation

from vqbet_course.course import plots

PALETTE = [plots.DEMO, plots.CODE, plots.OFFSET, plots.POLICY, plots.GOAL, plots.FAILURE, plots.OTHER]

# Machado et al. 2009, severity 1: what an eye without the cones for red or green sees of linear RGB
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.fixture(autouse=True)
def no_figure_stays() -> Iterator[None]:
    plt.close("all")
    with matplotlib.rc_context():
        yield
    plt.close("all")


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear.clip(0, 1)
    x, y, z = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", [np.eye(3), *BLINDNESS.values()], ids=["all cones", *BLINDNESS])
def test_every_two_colours_can_be_distinguished(eye: list[list[float]]) -> None:
    linear = [np.array(to_rgb(color)) ** 2.2 for color in PALETTE]
    seen = [lab(np.array(eye) @ color) for color in linear]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 10


def test_y_goes_downwards_on_the_board_and_in_the_plane() -> None:
    _, (board, plane, fitted) = plots.panels(1, 3)
    plots.board(board, block=[(0, 0), (9, 0), (9, 9)], goal=[(0, 0), (9, 0), (9, 9)], pusher=(50, 60))
    plots.plane(plane, reach=10)
    plots.path(fitted, [(0, 0), (3, 4)])
    plots.plane(fitted)
    assert all(ax.yaxis_inverted() for ax in (board, plane, fitted))
    assert all(ax.get_aspect() == 1 for ax in (board, plane, fitted))


def test_curves_start_at_zero_and_have_a_legend_only_when_there_are_several() -> None:
    _, (one, two) = plots.panels(1, 2)
    plots.curves(one, [1, 2], {"a": [5, 6]})
    plots.curves(two, None, {"a": {1: 5.0, 4: 6.0}, "b": [7.0, 8.0]}, ylabel="px")
    assert one.get_ylim()[0] == 0 and one.get_legend() is None
    assert [text.get_text() for text in two.get_legend().get_texts()] == ["a", "b"]
    assert [list(line.get_xdata()) for line in two.lines] == [[1, 4], [0, 1]]
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in two.lines}) == 2


def test_rates_show_every_rate_between_its_bounds() -> None:
    _, ax = plots.panels()
    plots.rates(ax, {"a": (0.5, 0.2, 0.8), "b": (0.0, 0.0, 0.3)})
    assert ax.get_xlim() == (0, 1) and ax.yaxis_inverted()
    assert [
        line.get_xdata().tolist() if hasattr(line.get_xdata(), "tolist") else list(line.get_xdata())
        for line in ax.lines
    ] == [[0.2, 0.8], [0.5], [0.0, 0.3], [0.0]]


def test_frames_say_by_colour_and_title_how_each_ended() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    plots.frame_grid([("same", picture), ("same", picture), ("other", picture)], columns=2, good=[True, False, True])
    titles = [(ax.get_title(), ax.title.get_color()) for ax in plt.gcf().axes]
    assert titles[:3] == [("same", plots.GOAL), ("same", plots.FAILURE), ("other", plots.GOAL)]
    assert len(titles) == 4 and titles[3][0] == ""


def test_success_rates_come_from_the_metrics_with_their_intervals() -> None:
    plots.success_rates({"a": {"success_rate": 0.5, "success_ci95": [0.2, 0.8]}})
    bar, dot = (np.asarray(line.get_xdata()).tolist() for line in plt.gca().lines)
    assert bar == [0.2, 0.8] and dot == [0.5]


def test_the_last_frame_is_what_an_environment_shows_after_all_actions() -> None:
    class Counter:
        def reset(self, seed: int) -> None:
            self.total = seed

        def step(self, action: int) -> None:
            self.total += action

        def render(self) -> int:
            return self.total

        unwrapped = property(lambda self: self)

    assert plots.last_frame(Counter(), 100, [1, 2, 3]) == 106


def test_a_uniform_number_falls_on_the_step_of_its_code() -> None:
    plots.staircase([0.5, 0.3, 0.2], 0.72)
    assert plt.gca().get_title() == "0.72 draws code 1"
    tops = [bar.get_y() + bar.get_height() for bar in plt.gca().containers[0]]
    np.testing.assert_allclose(tops, [0.5, 0.8, 1.0])


def test_bars_stand_at_their_values() -> None:
    plots.grouped_bars({"one": {"a": 1.0, "b": 2.0}, "two": {"a": 3.0, "b": 4.0}}, "px")
    assert [[bar.get_height() for bar in group] for group in plt.gca().containers] == [[1, 3], [2, 4]]
    plots.bar_panels({"cold": [0.9, 0.1], "hot": [0.5, 0.5]}, x=[2, 4])
    assert [ax.get_title() for ax in plt.gcf().axes] == ["cold", "hot"]
    places = [np.mean(bar.get_extents().intervalx) for bar in plt.gcf().axes[0].patches]
    np.testing.assert_allclose(plt.gcf().axes[0].transData.inverted().transform([(x, 0) for x in places])[:, 0], [2, 4])


def test_the_offset_leads_from_the_codes_to_the_demonstration() -> None:
    plots.chunk_and_offset([(0, 0), (5, 5)], [(1, 1), (6, 6)], [(1, 2), (6, 8)])
    arrows = [arrow for arrow in plt.gca().get_children() if isinstance(arrow, Annotation)]
    assert plt.gca().yaxis_inverted()
    assert [(arrow.xyann, arrow.xy) for arrow in arrows] == [((1, 1), (1, 2)), ((6, 6), (6, 8))]


def test_heatmaps_share_one_scale() -> None:
    plots.heatmaps({"a": np.eye(2), "b": 0.1 * np.eye(2)}, "share", "x", "y", vmax=1)
    images = [image for ax in plt.gcf().axes for image in ax.images]
    assert len(images) == 2 and {image.get_clim() for image in images} == {(0, 1)}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.sentences({"words": ["the", "robot"], "moves": [(3, 8)]}, {(3, 8): [[1.0, 2.0], [3.0, 4.0]]}),
        lambda: plots.vocabulary(np.random.default_rng(0).normal(size=(5, 3, 4, 2)), list("abcde")),
        lambda: plots.flow([["a", "b"], ["c"]], ("first", "second")),
        lambda: plots.sums([(1, 0), (0, 1)], [(0.1, 0)], "sums"),
        lambda: plots.curve_figure(None, {"a": [1.0, 2.0]}),
        lambda: plots.absolute_and_relative([(0, 0), (9, 0), (9, 9)], {"a": ((50, 60), [(0, 0), (3, 4)])}),
    ],
)
def test_whole_figures_are_as_wide_as_a_lesson_at_most(draw: Callable[[], None]) -> None:
    draw()
    assert plt.gcf().get_size_inches()[0] <= plots.WIDTH


def test_plots_stand_on_nothing_but_the_ground() -> None:
    code = (
        "import sys; from vqbet_course.course import plots; "
        "print(sorted(m for m in sys.modules if m.startswith(('vqbet_course', 'torch', 'matplotlib.pyplot'))))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == str(
        [
            "vqbet_course",
            "vqbet_course.core",
            "vqbet_course.core.palette",
            *("vqbet_course.course", "vqbet_course.course.plots"),
        ]
    )


def test_a_log_is_plotted_in_the_unit_that_it_states() -> None:
    log = [
        {"stage": "tokenizer", "step": 0, "reconstruction_deg": 3.0, "code_pairs": 5.0},
        {"stage": "policy", "step": 0, "primary_accuracy": 0.5, "offset_loss_deg": 4.0},
    ]
    plots.training_log(log)
    assert {"reconstruction (deg)", "action error (deg)"} < {ax.get_title() for ax in plt.gcf().axes}
