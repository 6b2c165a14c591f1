"""What a training says before it begins: what it trains on, what its policy sees and does, how many steps, how long."""

import sys

from vqbet_course.core.budget import Budget
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.units import UNSTATED
from vqbet_course.datasets.source import Source
from vqbet_course.demos import Demos
from vqbet_course.training.data import RELATIVE, laptop_changes, stated_changes


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


def relative_note(demos: Demos, remedy: str) -> str | None:
    """Why chunks are relative or absolute where nothing states it, in a line with the remedy; None where it is stated."""
    stated, contract = stated_changes(demos.contract), demos.contract
    if RELATIVE not in stated:
        found = laptop_changes(demos)[RELATIVE]
        kind = "positions of observation.state" if found else "displacements or velocities"
        return f"its actions look like {kind}, so chunks are {'relative to it' if found else 'absolute'}; {remedy}"
    state = contract.observation.get("observation.state")
    if stated[RELATIVE] or state is None or state.size != contract.action.size:
        return None
    if UNSTATED not in state.unit_of_each + contract.action.unit_of_each:
        return None
    return (
        "chunks are absolute, for the data do not state that observation.state and the action have one unit; where they "
        f"do, give --unit observation.state=UNIT --unit action=UNIT; {remedy}"
    )


def several_tasks_note(source: Source) -> str:
    """That the tasks of a source become one, in a line with the remedy."""
    names = ", ".join(map(repr, source.all_tasks))
    return (
        f"{names} are learned as one, for the policy is not told which is meant; --only-task NAME trains on one of them"
    )


def steps_line(steps: int, vqvae_steps: int, budget: Budget) -> str:
    """How many steps each stage has, and how long they take, where that is known."""
    long = "" if budget.minutes is None else f"; about {budget.minutes:g} minutes"
    return f"{steps} steps: {vqvae_steps} of the tokenizer, {steps - vqvae_steps} of the policy{long}"
