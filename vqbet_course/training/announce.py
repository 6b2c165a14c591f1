"""What a training says before it begins: what it trains on, what its policy sees and does, how many steps, how long."""

import sys
from collections.abc import Collection

from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.demos import Demos
from vqbet_course.training.data import without_units


def announce(line: str, quiet: bool) -> None:
    """Print a line on stderr at once, also into a pipe, unless `quiet`."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def data_line(demos: Demos, config: VQBeTConfig) -> str:
    """Which demonstrations are trained on, and what the policy sees and does."""
    seen = ", ".join([*config.image_shapes, *config.observation_sizes])
    relative = "relative to observation.state" if config.use_relative_actions else "absolute"
    return (
        f"{len(demos)} episodes, {len(demos.action)} frames; sees {seen}; decides chunks of "
        f"{config.action_chunk_size} actions, {relative}"
    )


def announce_units(demos: Demos, config: VQBeTConfig, set_by_hand: Collection[str], quiet: bool) -> None:
    """Say what changes it where actions are absolute only because the data state no units."""
    if config.use_relative_actions or "use_relative_actions" in set_by_hand or not without_units(demos.contract):
        return
    announce(
        "note: actions are absolute, for the data do not state that observation.state and the action have one unit; "
        "where they do, give --unit observation.state=UNIT --unit action=UNIT, or --set use_relative_actions=true",
        quiet,
    )


def steps_line(steps: int, vqvae_steps: int, budget: Budget) -> str:
    """How many steps each stage has, and how long they take, where that is known."""
    long = "" if budget.minutes is None else f"; about {budget.minutes:g} minutes"
    return f"{steps} steps: {vqvae_steps} of the tokenizer, {steps - vqvae_steps} of the policy{long}"
