"""Makes bodies.jpg: the worlds of lesson 16, each at three moments of a demonstration.

python nbs/images/make_bodies.py        MetaWorld is rendered (libegl1 or libosmesa6), block_push is drawn
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vqbet_course.tasks import get_task

SIDE, MOMENTS, SEED = 256, (0.1, 0.5, 1.0), 200_001


def moments(name: str) -> Iterator[Image.Image]:
    """Frames of a demonstrator's episode at the MOMENTS of its length."""
    task = get_task(name)
    env, demonstrator, actions = task.make_env(), task.demonstrator(SEED), []
    seen, _ = env.reset(seed=SEED)
    for _ in range(task.horizon):
        actions.append(demonstrator(seen))
        seen, _, over, *_ = env.step(actions[-1])
        if over:
            break
    env.reset(seed=SEED)
    shown = {max(1, round(part * len(actions))) for part in MOMENTS}
    for step, action in enumerate(actions, 1):
        env.step(action)
        if step in shown:
            yield Image.fromarray(np.asarray(env.render())).resize((SIDE, SIDE))


def main() -> None:
    """Write the sheet, a row per world."""
    rows = [list(moments(name)) for name in ("block_push", "metaworld-pick-place", "metaworld-drawer-open")]
    sheet = Image.new("RGB", (SIDE * len(MOMENTS), SIDE * len(rows)))
    for y, row in enumerate(rows):
        for x, frame in enumerate(row):
            sheet.paste(frame, (SIDE * x, SIDE * y))
    sheet.save(Path(__file__).with_name("bodies.jpg"), quality=82)


if __name__ == "__main__":
    main()
