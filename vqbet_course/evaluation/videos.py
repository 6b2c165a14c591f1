"""Videos of rollouts: what the environment renders, below it the tokens of each decision and the progress."""

import base64
import html
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from vqbet_course.core.io import write_atomically
from vqbet_course.rollout import Rollout, World
from vqbet_course.tasks import as_task
from vqbet_course.tasks.task import Task

if TYPE_CHECKING:
    from PIL import Image, ImageFont
    from PIL.ImageDraw import ImageDraw


def decided_tokens(episode: Rollout, step: int) -> tuple[list[tuple[int, ...]], float, int]:
    """What was decided up to a step: the tokens of each decision, how much of the last chunk is executed (0..1),
    and the step at which that chunk ends."""
    starts = [i for i, new in enumerate(episode.decided) if new]
    said = [i for i in starts if i <= step]
    length = starts[1] - starts[0] if len(starts) > 1 else len(episode.decided)
    end = min(said[-1] + length, len(episode.actions))
    return [episode.tokens[i] for i in said], (step + 1 - said[-1]) / length, end


FRAME_SIZE = (640, 512)  # height, width; what the environment renders is the upper 512 x 512


def draw_frame(rendered: np.ndarray, episode: Rollout, step: int, world: World = None) -> np.ndarray:
    """What the environment renders (H, W, 3), below it the tokens decided so far and the progress -> (640, 512, 3)
    uint8. Dots are the actions in the queue, where the task says where they point."""
    from PIL import Image, ImageDraw

    task = as_task(world)
    said, progress, end = decided_tokens(episode, step)
    image = Image.new("RGB", FRAME_SIZE[::-1], "white")
    image.paste(
        Image.fromarray(rendered).resize((512, 512)) if rendered.shape[:2] != (512, 512) else Image.fromarray(rendered)
    )
    image.paste(tokens_strip(said, progress), (86, 522))
    draw = ImageDraw.Draw(image)
    points = task.frame_points(np.array(episode.actions[step:end]))
    for size, (x, y) in enumerate([] if points is None else points[::-1]):
        draw.ellipse((x - 5 - size, y - 5 - size, x + 5 + size, y + 5 + size), fill="#d55e00", outline="white")
    where = [f"environment seed {episode.seed}, step {step + 1}", *filter(None, episode.intervention[step : step + 1])]
    draw.text((10, 8), ": ".join(where), "#444444", font(14))
    layers = [(537, "primary"), (573, "secondary")][: len(episode.tokens[step])]  # not every policy has tokens
    for y, words in [*layers, (612, task.progress_name)]:
        draw.text((80, y), words, "black", font(14), anchor="rm")
    draw_progress(draw, episode.coverage[step], task.success_progress)
    return np.asarray(image)


@cache
def font(size: int) -> "ImageFont.FreeTypeFont":
    """The font of the words in a frame, `size` pixels high."""
    from PIL import ImageFont

    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


SLOT = 60  # pixels from one token to the next


def tokens_strip(said: list[tuple[int, ...]], progress: float) -> "Image.Image":
    """A strip of 420 x 68 pixels; the newest tokens slide in from the right."""
    from PIL import Image

    strip = Image.new("RGB", (420, 68), "white")
    for age, tokens in enumerate(said[:-9:-1]):
        left = round(420 - SLOT * (age + min(1.0, 2 * progress)))
        for row, code in enumerate(tokens[:2]):
            strip.paste(token_tile(code, newest=age == 0), (left, 36 * row))
    return strip


@cache
def token_tile(code: int, newest: bool) -> "Image.Image":
    """A token, 60 x 32 pixels. A colour is a code."""
    from matplotlib import colormaps
    from PIL import Image, ImageDraw

    tile = Image.new("RGB", (SLOT, 32), "white")
    draw = ImageDraw.Draw(tile)
    red, green, blue = (int(255 * part) for part in colormaps["viridis"](code % 16 / 15)[:3])
    draw.rounded_rectangle(
        (2, 1, SLOT - 2, 29), 6, fill=(red, green, blue), outline="#d55e00" if newest else None, width=3
    )
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "white"
    draw.text((SLOT / 2, 15), str(code), ink, font(16), anchor="mm")
    return tile


def draw_progress(draw: "ImageDraw", now: float, success: float) -> None:
    """A bar for the progress of a step, with a mark where success begins."""
    left, right = 86, 506
    draw.rectangle((left, 600, right, 624), fill="#eeeeee")
    draw.rectangle((left, 600, left + (right - left) * min(1.0, now), 624), fill="#56b4e9")
    goal = left + (right - left) * success
    draw.line((goal, 596, goal, 628), "black", 2)
    draw.text((left + 8, 612), f"{now:.2f}", "black", font(14), anchor="lm")
    words = "success" if now > success else f"goal {success:g}"
    draw.text((goal - 8, 612), words, "#333333", font(14), anchor="rm")


def video_frames(episode: Rollout, world: World = None) -> Iterable[np.ndarray]:
    """An episode executed again from its actions, drawn: (640, 512, 3) uint8, a frame for every `frame_every`-th step
    of its task and for the last one. They are shown at `video_rate`."""
    task = as_task(world)
    env = task.make_env()
    env.reset(seed=episode.seed)
    for step, action in enumerate(episode.actions):
        env.step(action)
        if step % task.frame_every == 0 or step == len(episode.actions) - 1:
            yield draw_frame(np.asarray(env.render()), episode, step, task)


def video_rate(task: Task) -> float:
    """Frames a second at which a video of a task runs as fast as the task did."""
    return task.contract.data.fps / task.frame_every


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float | None = None) -> None:
    """Write frames (H, W, 3) uint8 as an H.264 video, atomically. `fps`: None is the rate of the default task."""
    import av

    rate = Fraction(fps or as_task(None).contract.data.fps).limit_denominator(1001)

    def encode(partial: Path) -> None:
        with av.open(str(partial), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=rate, options={"crf": "26", "preset": "veryfast"})
            for frame in frames:
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            container.mux(stream.encode())

    write_atomically(path, encode)


def video_html(path: Path, alt: str, width: int = 400) -> str:
    """A video as an HTML element that needs no other file; `alt` says in words what it shows."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<video controls autoplay loop muted playsinline width="{width}" aria-label="{html.escape(alt)}" '
        f'src="data:video/mp4;base64,{data}"></video>'
    )
