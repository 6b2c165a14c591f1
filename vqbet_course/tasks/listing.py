"""The tasks in words, as `vqbet-course tasks` lists them."""

from vqbet_course.core.errors import BadInput
from vqbet_course.tasks import NO_TASK, every_task, get_task
from vqbet_course.tasks.perturbations import KINDS
from vqbet_course.tasks.task import Task


def listing_of_tasks() -> list[str]:
    """All known tasks, line by line: first the name, below it what the task is and what it needs."""
    lines: list[str] = []
    known = list(reversed(every_task()))
    for task in known:
        alike = [other.name for other in known if task.family and other.family == task.family]
        if alike and task.name != alike[0]:
            continue
        if alike:
            lines.append(f"{task.family}-NAME, {len(alike)} tasks, of which the first is described: {', '.join(alike)}")
        lines.append(f"{task.name}: {task.instruction}" if task.instruction != "unstated" else task.name)
        lines += [f"  {name:<15}{words}" for name, words in properties_of(task).items() if words]
    return [*lines, f"on every task: --perturb {', '.join(KINDS)}"]


def properties_of(task: Task) -> dict[str, str]:
    """What a task is and needs, {in a word: in words}; empty words where it has nothing of the kind."""
    contract = task.contract
    low, high = contract.action_bounds
    observed = [f"{name}: {field}" for name, field in contract.data.observation.items()]
    return {
        "robot": contract.robot,
        "observes": "; ".join(observed),
        "does": f"{contract.data.action}, {low:g} to {high:g}, {contract.data.fps:g} a second, at most {task.horizon} steps",
        "success": contract.success,
        "needs": ", ".join(task.needs.values())
        + (f" (missing: {', '.join(task.missing())})" if task.missing() else ""),
        "demonstrations": f"--data {task.data}" if task.data else command_of_demonstrations(task),
        "perturbations": ", ".join(task.perturbations),
        "behaviours": "; ".join(task.behaviours),
    }


def data_of(task: str | None, data: str | None) -> str:
    """The SOURCE that is given, else the task's own; `demo` without either. Raises BadInput, with a way to get some, for a
    task that has none."""
    if data is not None:
        return data
    if task in (None, NO_TASK):
        return "demo"
    own = get_task(task)
    if own.data is not None:
        return own.data
    command = command_of_demonstrations(own)
    raise BadInput(
        f"{own.name} has no demonstrations of its own; give --data SOURCE"
        + (f", which you can make with: {command}" if command else "")
    )


def command_of_demonstrations(task: Task) -> str:
    """The command that makes demonstrations of a task; empty for a task without demonstrator."""
    made = type(task).demonstrations is not Task.demonstrations
    return f"vqbet-course demos make --task {task.name} --out DIR" if made else ""
