"""What all explorers are: controls, and below them a picture of the state that they describe."""
import base64
import html
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipywidgets import ValueWidget, VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def explorer(draw: Callable[..., str], **controls: "ValueWidget") -> "VBox":
    """Controls above the HTML that `draw`, given their values by name, makes anew whenever one of them moves."""
    import ipywidgets

    def now() -> str:
        return draw(**{name: control.value for name, control in controls.items()})

    picture = ipywidgets.HTML(now())

    def show(change: Any) -> None:
        picture.value = now()

    for control in controls.values():
        control.observe(show, names="value")
    return ipywidgets.VBox([*controls.values(), picture])


def slider(words: str, highest: int, value: int = 0, lowest: int = 0) -> "ValueWidget":
    """A slider over whole numbers that takes the arrow keys."""
    import ipywidgets

    return ipywidgets.IntSlider(value, lowest, highest, description=words, style={"description_width": "initial"})


def choice(words: str, options: Any, value: Any) -> "ValueWidget":
    """A slider over options (or pairs of words and option) that takes the arrow keys."""
    import ipywidgets

    return ipywidgets.SelectionSlider(options=options, value=value, description=words,
                                      style={"description_width": "initial"})


def as_image(figure: "Figure", alt: str) -> str:
    """A figure as an HTML image that needs no other file; its titles join `alt` as the alternative text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, pil_kwargs={"compress_level": 1})
    words = html.escape("; ".join([alt, *(ax.get_title() for ax in figure.axes if ax.get_title())]))
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{words}" style="max-width: 100%" src="data:image/png;base64,{data}">'


def draw_board(ax: "Axes", corners: Any, pusher: Any) -> None:
    """PushT's board seen from above: the goal in green, the T by its keypoints (8, 2), the pusher (2,); pixels."""
    from matplotlib.patches import Circle, Polygon

    from vqbet_course.pusht import AROUND, GOAL_POSE, OUTLINE, PUSHER_RADIUS, SIZE, to_world

    ax.add_patch(Polygon(to_world(OUTLINE, GOAL_POSE[None])[0], facecolor="#BFE5D8", edgecolor=GREEN))
    ax.add_patch(Polygon(corners[AROUND], facecolor="0.7", edgecolor="0.4", alpha=0.9))
    ax.add_patch(Circle(tuple(pusher), PUSHER_RADIUS, facecolor=BLUE, alpha=0.7))
    ax.set(xlim=(0, SIZE), ylim=(SIZE, 0), aspect="equal", xticks=(), yticks=())
