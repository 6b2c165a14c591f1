"""Parts of all explorers: controls, and below them an image of the state that they describe."""

import base64
import gc
import html
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vqbet_course.core.pages import render
from vqbet_course.core.palette import DEMO, GOAL
from vqbet_course.widgets.frames import control_of, with_frames

if TYPE_CHECKING:
    from ipywidgets import ValueWidget, VBox
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vqbet_course.tasks.task import Scene

DPI = 80
IN_LINE: Any = {"style": {"description_width": "8em"}, "layout": {"width": "26em"}}  # sliders begin and end alike
SIZES = re.compile(r'width="(\d+)" height="(\d+)"')


def explorer(
    draw: Callable[..., str], drawn_ahead: Mapping[str, Sequence[Any]] | None = None, **controls: "ValueWidget"
) -> "VBox":
    """Controls above the HTML that `draw`, given their values by name, makes anew whenever one of them moves.

    `drawn_ahead`: the values of some controls in the frames for pages without a kernel; of the others, all.
    """
    import ipywidgets

    def now() -> str:
        with young_figures():
            return draw(**{name: control.value for name, control in controls.items()})

    image = ipywidgets.HTML(now())

    def show(change: Any) -> None:
        image.value = now()

    for control in controls.values():
        control.observe(show, names="value")
    ahead = {name: control_of(control, (drawn_ahead or {}).get(name)) for name, control in controls.items()}
    box = with_frames(ipywidgets.VBox([*controls.values(), image]), draw, ahead)
    return with_picture(box, lambda: image.value)


def with_picture(box: "VBox", picture: Callable[[], str]) -> "VBox":
    """The explorer; where it is displayed, its `picture` follows it, which is seen only where no kernel runs. A script
    beside it names controls and canvases for screen readers: a slider by its label, a canvas by its `words`."""

    def display_both(**options: Any) -> None:
        from IPython.display import HTML, display

        display(box._repr_mimebundle_(**options), raw=True)
        words = [canvas.words for canvas in canvases_of(box)]
        display(HTML(render("without_kernel.html", picture=picture(), canvases=words)))

    box._ipython_display_ = display_both
    return box


def canvases_of(widget: Any) -> "Iterator[Any]":
    """The canvases in a widget, in their order on the page."""
    if hasattr(widget, "words"):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from canvases_of(child)


@contextmanager
def young_figures() -> Iterator[None]:
    """Free the figures that are made in this block at once. They refer to themselves in circles, and once a few are
    old, Python searches every object for them: a pause of 0.25 s where torch is loaded."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(1)
        if collecting:
            gc.enable()


def played(box: "VBox", control: Any, interval: int = 200, loop: bool = False) -> "VBox":
    """An explorer with a button that moves one of its sliders, a value every `interval` milliseconds."""
    import ipywidgets

    at, last = ("value", control.max) if hasattr(control, "max") else ("index", len(control.options) - 1)
    play = ipywidgets.Play(
        value=getattr(control, at),
        min=0,
        max=last,
        interval=interval,
        repeat=loop,
        description=f"play the {control.description}",
    )
    ipywidgets.jslink((play, "value"), (control, at))
    box.children = (play, *box.children)
    return box


def on_image(ax: "Axes", x: float, y: float) -> tuple[float, float]:
    """The place in the axes' coordinates of a click, in shares of the picture from its top left."""
    ax.apply_aspect()
    place, (left, right), (bottom, top) = ax.get_position(), ax.get_xlim(), ax.get_ylim()
    along, up = (x - place.x0) / place.width, (1 - y - place.y0) / place.height
    return left + along * (right - left), bottom + up * (top - bottom)


def clickable(box: "VBox", choose: Callable[[float, float], None], words: str) -> "VBox":
    """An explorer whose image takes clicks: `choose` hears where, in shares of width and height from the top left.

    An image in HTML cannot report clicks to the kernel, so an empty canvas of the same size lies over it; `words` name it.
    """
    *controls, image = box.children
    box.children = (*controls, under_canvas(image, choose, words))
    return box


def under_canvas(image: Any, choose: Callable[[float, float], None], words: str) -> Any:
    """An image in HTML below an empty canvas that hears clicks; `words` name it."""
    import ipywidgets
    from ipycanvas import Canvas

    image.layout.grid_area = "1 / 1"
    width, height = (int(size) for size in SIZES.findall(image.value)[0])
    canvas = Canvas(width=width, height=height, layout={"grid_area": "1 / 1", "max_width": "100%"})
    canvas.words = words
    canvas.on_mouse_down(lambda x, y: choose(x / width, y / height))
    leave_by_tab(canvas)
    return ipywidgets.GridBox([image, canvas])


def leave_by_tab(canvas: Any) -> None:
    """Let Tab leave a canvas: it handles every key itself, so keyboard users would be caught in it."""
    canvas.on_key_down(lambda key, *_: canvas.blur() if key == "Tab" else None)


def slider(words: str, highest: int, value: int = 0, lowest: int = 0) -> "ValueWidget":
    """A slider over whole numbers that takes the arrow keys."""
    import ipywidgets

    return ipywidgets.IntSlider(value, lowest, highest, description=words, **IN_LINE)


def choice(words: str, options: Any, value: Any) -> "ValueWidget":
    """A slider over options (or pairs of words and option) that takes the arrow keys."""
    import ipywidgets

    return ipywidgets.SelectionSlider(options=options, value=value, description=words, **IN_LINE)


def as_image(figure: "Figure", alt: str) -> str:
    """A figure as a self-contained HTML image; its titles join `alt` as the alternative text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    words = html.escape("; ".join([alt, *(ax.get_title() for ax in figure.axes if ax.get_title())]))
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(DPI * size) for size in figure.get_size_inches())
    style = "display: block; max-width: 100%; height: auto"
    return f'<img alt="{words}" width="{width}" height="{height}" style="{style}" src="data:image/png;base64,{data}">'


def draw_scene(ax: "Axes", scene: "Scene") -> None:
    """A board seen from above: the goal in green, block and pusher."""
    from matplotlib.patches import Circle, Polygon

    ax.add_patch(Polygon(scene.goal, facecolor="#BFE5D8", edgecolor=GOAL))
    ax.add_patch(Polygon(scene.block, facecolor="0.7", edgecolor="0.4", alpha=0.9))
    ax.add_patch(Circle((float(scene.pusher[0]), float(scene.pusher[1])), scene.radius, facecolor=DEMO, alpha=0.7))
    ax.set(xlim=(0, scene.size), ylim=(scene.size, 0), aspect="equal", xticks=(), yticks=())


def draw_board(ax: "Axes", corners: Any, pusher: Any) -> None:
    """PushT's board seen from above, with the T's keypoints (8, 2) and the pusher (2,); pixels."""
    from vqbet_course.tasks import DEFAULT_TASK, get_task

    draw_scene(ax, get_task(DEFAULT_TASK).scene({"environment_state": corners.reshape(16), "agent_pos": pusher}))
