"""Explorers for pages without a kernel: frames drawn beforehand, chosen by sliders of plain HTML and JavaScript."""

import base64
import io
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vqbet_course.core.pages import render

if TYPE_CHECKING:
    from ipywidgets import VBox

SWITCH = "VQBET_COURSE_FRAMES"
"""The environment variable that `make course` sets, so that explorers draw their frames; it costs seconds each."""

MOST = 48  # frames of an explorer
COLOURS = 64  # of a frame's palette: a third of the bytes
PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')


@dataclass(frozen=True)
class FrameControl:
    """A slider over pre-drawn frames: its description, its values, their labels, and the position of the first shown."""

    words: str
    values: Sequence[Any]
    labels: Sequence[str]
    start: int

    def thinned(self, n: int) -> "FrameControl":
        """The same with at most n values, evenly spaced, the first shown among them."""
        last = len(self.values) - 1
        if n > last:
            return self
        kept = sorted({round(i * last / max(1, n - 1)) for i in range(n)})
        nearest = min(range(len(kept)), key=lambda i: abs(kept[i] - self.start))
        kept[nearest] = self.start
        return FrameControl(self.words, [self.values[i] for i in kept], [self.labels[i] for i in kept], nearest)


def control_of(widget: Any, values: Sequence[Any] | None = None) -> FrameControl:
    """The values of a slider from parts.py, or those given, as a control of frames."""
    if values is None:
        options = getattr(widget, "options", None)
        values = list(options) if options is not None else list(range(widget.min, widget.max + 1))
    values = sorted({*values, widget.value}) if not isinstance(values[0], str) else list(values)
    return FrameControl(widget.description, values, [str(value) for value in values], values.index(widget.value))


def thin_controls(controls: Sequence[FrameControl], most: int = MOST) -> list[FrameControl]:
    """The controls with so few values that there are at most `most` frames; the longest one loses values first."""
    sizes = [len(control.values) for control in controls]
    while len(sizes) and product(sizes) > most:
        sizes[sizes.index(max(sizes))] -= 1
    return [control.thinned(size) for control, size in zip(controls, sizes, strict=True)]


def product(sizes: Sequence[int]) -> int:
    """The product of whole numbers."""
    total = 1
    for size in sizes:
        total *= size
    return total


def frames_html(draw: Callable[..., str], controls: Mapping[str, FrameControl]) -> str:
    """An explorer as HTML that needs no kernel and no network: `draw` makes the image of every combination of values,
    by the controls' names; sliders choose among them."""
    thinned = thin_controls(list(controls.values()))
    images = []
    for places in itertools.product(*(range(len(control.values)) for control in thinned)):
        values = [control.values[place] for control, place in zip(thinned, places, strict=True)]
        shown = places == tuple(control.start for control in thinned)
        images.append(as_frame(draw(**dict(zip(controls, values, strict=True))), shown))
    return render("frames.html", controls=thinned, images=images)


def as_frame(image: str, shown: bool) -> str:
    """An image from `as_image` with fewer colours, hidden unless it is the one shown first."""
    image = PNG.sub(lambda match: f'src="data:image/png;base64,{with_few_colours(match[1])}"', image)
    return image if shown else image.replace('style="display: block', 'style="display: none')


def with_few_colours(png: str) -> str:
    """The base64 of a PNG, drawn with COLOURS colours."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def with_frames(box: "VBox", draw: Callable[..., str], controls: Mapping[str, FrameControl]) -> "VBox":
    """The explorer; where SWITCH is set, a notebook stores its frames beside the widget, for pages without a kernel."""
    if os.environ.get(SWITCH):
        shown = box._repr_mimebundle_

        def bundle(**options: Any) -> dict[str, Any]:
            return shown(**options) | {"text/html": frames_html(draw, controls)}

        box._repr_mimebundle_ = bundle
    return box
