"""The registry of tasks. To add one, write its folder with a `Task` and add a line to TASKS; nothing is imported here
until it is asked for.

    task = get_task("pusht")                       a name, or module:Class of a Task or an environment with a contract
    source = open_source("demo")                   a SOURCE, as the task sees it that its data are of
    task = task_of(load_demos(source).contract)    None: of no task that is known
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract
from vqbet_course.tasks.metaworld import METAWORLD_NAMES

if TYPE_CHECKING:
    from vqbet_course.datasets.choice import Choice
    from vqbet_course.datasets.source import Source
    from vqbet_course.demos import Demos
    from vqbet_course.tasks.task import Task

TASKS: dict[str, "str | Task"] = {
    "pusht": "vqbet_course.tasks.pusht.task:PushT",
    "navigation": "vqbet_course.tasks.navigation.task:Navigation",
    "block_push": "vqbet_course.tasks.block_push.task:BlockPush",
    "aloha-transfer": "vqbet_course.tasks.aloha.task:AlohaTransfer",
    "aloha-insertion": "vqbet_course.tasks.aloha.task:AlohaInsertion",
    **{f"metaworld-{name}": f"vqbet_course.tasks.metaworld.task:MetaWorld:{name}" for name in METAWORLD_NAMES},
}
"""{name, or module:Class of a task of one's own: module:Class of a task that was not asked for yet, or the task}. Of a
class of many tasks, module:Class:NAME is one."""

DEFAULT_TASK = "pusht"
"""The task of results from before contracts were written into them, and where none is named."""

NO_TASK = "none"
"""Instead of a task's name: read a SOURCE as it is stored."""


def register(task: "Task") -> None:
    """Make a task known by its name. Raises BadInput for a name that is taken."""
    if task.name in TASKS:
        raise BadInput(f"task {task.name!r} is registered already; choose another name")
    TASKS[task.name] = task


def get_task(name: str) -> "Task":
    """The task of this name, or of `module:Class`: a `Task`, or a Gymnasium environment with a `contract`.

    Raises BadInput as `known_task` does, and for a task that needs a package that is not installed."""
    task = known_task(name)
    task.check_installed()
    return task


def known_task(name: str) -> "Task":
    """As `get_task`, whether its packages are installed or not: to recognise its data, they need not be.

    Raises BadInput for an unknown name, a module that cannot be imported, or an environment without contract."""
    known = TASKS.get(name, name)
    if not isinstance(known, str):
        return known
    if ":" not in known:
        raise BadInput(f"unknown task {name!r}; choose from {', '.join(names_like(name))}, or give module:Class")
    task = TASKS[name] = imported_task(known)
    return task


def names_like(asked: str) -> list[str]:
    """The names to choose from where somebody asked for another one: of MetaWorld's tasks only where it begins as theirs
    do, else what theirs are like."""
    theirs = [name for name in TASKS if name.startswith("metaworld-")]
    if asked.startswith("metaworld"):
        return theirs
    return [*(name for name in TASKS if name not in theirs), "metaworld-NAME"]


def imported_task(path: str) -> "Task":
    """The task of `module:Class`, or of `module:Class:NAME`. Raises BadInput as `get_task` does."""
    from vqbet_course.tasks.task import EnvironmentTask, Task

    module, attribute, *member = path.split(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: a module in the folder that one is in
    try:
        made: Any = getattr(import_module(module), attribute)
        return made(*member) if isinstance(made, type) and issubclass(made, Task) else EnvironmentTask(path, made)
    except BadInput:
        raise
    except Exception as error:  # it is somebody else's code
        raise BadInput(f"{path}: not an environment with a contract ({type(error).__name__}: {error})") from None


def every_task() -> "list[Task]":
    """All tasks that are known, the newest first: a task of one's own goes before the one that it was made from. What
    is no more than an environment comes last."""
    from vqbet_course.tasks.task import EnvironmentTask

    known = [known_task(name) for name in reversed(list(TASKS))]
    return sorted(known, key=lambda task: isinstance(task, EnvironmentTask))


def task_of(contract: Contract) -> "Task | None":
    """The task whose data have this contract; None where no task is known that has."""
    return next((task for task in every_task() if task.owns(contract)), None)


def own_task(contract: Contract, name: str | None = None) -> "Task | None":
    """The task of this name, else the one whose data have this contract; None for neither."""
    return get_task(name) if name not in (None, NO_TASK) else task_of(contract)


def as_task(world: "Task | Callable[[], Any] | None") -> "Task":
    """A task as it is; None: the default task; what makes an environment with a contract: the task of that."""
    from vqbet_course.tasks.task import EnvironmentTask, Task

    if world is None:
        return get_task(DEFAULT_TASK)
    return world if isinstance(world, Task) else EnvironmentTask(getattr(world, "__name__", "environment"), world)


def open_source(
    text: str, fps: float | None = None, task: str | None = None, choice: "Choice | None" = None
) -> "Source":
    """Open a SOURCE (`demo`, a path, an id on the hub) as the task sees it that its demonstrations are of.

    `fps`: frames a second, for sources that do not say. `task`: whose demonstrations they are; None: what the source's
    contract or its numbers show, else as they are stored; `none`: as they are stored. `choice`: what of the source is
    taken. Raises BadInput for anything
    else."""
    from vqbet_course.datasets.readers import open_as_stored

    opened = open_as_stored(text, fps, choice)
    if task == NO_TASK:
        return opened
    if task is not None:
        adapted = get_task(task).adapt(opened, asked=True)
        assert adapted is not None
        return adapted
    return next((found for found in (task.adapt(opened) for task in every_task()) if found is not None), opened)


def open_sources(
    texts: Sequence[str], task: str | None, choice: "Choice", units: Sequence[str] = (), render: bool = False
) -> "Source":
    """Several SOURCEs, opened as `open_source` does and joined; `units`: units that they do not state, as NAME=UNIT;
    `render`: with drawings of their states, which `choice` resizes, too. Raises BadInput for what cannot be."""
    from vqbet_course.datasets.choice import joined, resized
    from vqbet_course.datasets.readers import with_units

    stored = replace(choice, resize=None) if render else choice
    opened = with_units(joined([open_source(text, task=task, choice=stored) for text in texts]), units)
    if not render:
        return opened
    drawn = with_drawings(opened)
    return drawn if choice.resize is None else resized(drawn, *choice.resize)


def task_before_renaming(text: str, choice: "Choice") -> "Task | None":
    """The task that a SOURCE is of by its own names; None where it is of none, or cannot be read by them."""
    try:
        return task_of(open_source(text, choice=replace(choice, rename=())).contract)
    except BadInput:
        return None


def augmented(demos: "Demos", chunk_size: int) -> "Demos":
    """The demonstrations, followed by what their task makes of them. Raises BadInput where it can make nothing."""
    task = task_of(demos.contract)
    if task is None:
        raise BadInput(f"{demos.source}: of no task that is known, so nothing can be augmented; leave --augment out")
    return task.augment(demos, chunk_size)


def with_drawings(source: "Source") -> "Source":
    """The source with a frame drawn for every state. Raises BadInput where it has images, or its task cannot draw."""
    if source.image_sizes:
        raise BadInput(f"{source.path}: has images already ({', '.join(source.image_sizes)}); leave --render out")
    task = task_of(source.contract)
    if task is None or task.frame_size is None:
        raise BadInput(f"{source.path}: not demonstrations of a task that can draw them; leave --render out")
    return task.with_drawings(source)
