"""Progress reports: a bar on a terminal or in a notebook, a line a minute anywhere else."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 60.0


class Lines:
    """A stream that turns each redrawn bar but the first, which says that nothing is done yet, into a line."""

    def __init__(self) -> None:
        self.begun = False

    def write(self, text: str) -> int:
        """Print the text without what redraws; nothing for blank text."""
        if text.strip() and self.begun:
            sys.stderr.write(text.strip("\r\n ") + "\n")
        self.begun = self.begun or bool(text.strip())
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        sys.stderr.flush()


def progress(
    desc: str,
    unit: str,
    iterable: Iterable | None = None,
    total: int | None = None,
    initial: int = 0,
    quiet: bool = False,
) -> "tqdm[Any]":
    """A progress bar over `iterable`, or one that `update` moves up to `total`; `quiet` prints nothing.

    Where the output is neither a terminal nor a notebook, it prints a line a minute and one at the end."""
    options: dict[str, Any] = {"dynamic_ncols": True, "mininterval": 0.5}
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        options = {
            "file": Lines(),
            "mininterval": SECONDS_BETWEEN_LINES,
            "maxinterval": SECONDS_BETWEEN_LINES,
            "ncols": 100,
        }
    return tqdm(iterable, desc=desc, unit=unit, total=total, initial=initial, disable=quiet, **options)


def close_all() -> None:
    """End the lines of all progress that is still reported."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()
