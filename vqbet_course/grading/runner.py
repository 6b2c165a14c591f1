"""Runs inside the sandbox, where a student's code runs: asks, and hands back data.

One process imports torch once. For every exercise it forks a child, which takes the limits, runs the student's cell,
and answers into a file that the grader owns; then every process that is left is killed. This file and `limits` are
all that the sandbox holds of the grader.

A job is a safetensors file: tensors `CASE.NAME` are the inputs; its metadata holds lists of sources, as JSON: `given`
(cells of the lesson), `helpers` (statements of the student's other cells), `source` (the student's cell) and `after`
(what else the student says of the answer); `probe` (how to ask), `answer` (the name to ask for), and `told`, which is
not empty where the words of an error may be handed back. An answer is a file like that, too: tensors `CASE.NAME`, and
in its metadata a `status` and where it happened.
"""

import ast
import builtins
import importlib
import json
import os
import shutil
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

if __name__ == "__main__":
    sys.path += sys.argv[3:]

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from vqbet_course.grading.limits import PR_SET_DUMPABLE, Limits, control_process

Outputs = dict[str, Tensor]

TEMPORARY = "/tmp"
ANYBODYS = stat.S_IFDIR | 0o1777
"""The mode of a temporary folder."""


# --- asking (the judge and the notebook's `check` use this part as well) ------------------------------------


OTHER_ERROR = 2
"""What stands for a call that raised an error of another class than was asked for."""


def refuses(call: Callable[[], object]) -> int:
    """Whether a call raises ValueError (BadInput is one): it says no. OTHER_ERROR for another error: an accident."""
    try:
        call()
    except ValueError:
        return True
    except Exception:
        return OTHER_ERROR
    return False


class WrongReturn(TypeError):
    """What an answer returned has another form than was asked for: a form of RETURNS, and the words that go into it."""


def several(value: Any, n: int) -> Sequence[Any]:
    """The n things that an answer returned, a tuple or a list. Raises WrongReturn; a tensor could be taken apart, too."""
    held = len(value) if isinstance(value, tuple | list) else 1
    if held != n and value is not None:
        raise WrongReturn("several", f"{held} {n}")
    return value


def gradients(value: Any, *at: Tensor) -> tuple[Tensor, ...]:
    """The gradients of a number at some tensors; of several numbers, those of their sum, each weighted by the cosine of
    its position. 0 where none arrives."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        return tuple(torch.zeros_like(x) for x in at)
    weights = torch.arange(value.numel()).cos().view_as(value).to(value)
    return torch.autograd.grad(
        (value * weights).sum(), at, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def parameter_gradients(value: Any, module: nn.Module) -> Tensor:
    """The gradients, as `gradients` has them, at all parameters of a module, in a row."""
    return torch.cat([slope.flatten() for slope in gradients(value, *module.parameters())])


@torch.no_grad()
def set_parameters(module: Any, numbers: Tensor) -> Any:
    """Set all parameters of a module from `numbers` (n,), over and over; returns the module, in eval mode."""
    start = 0
    for parameter in module.parameters():
        places = torch.arange(start, start + parameter.numel()) % len(numbers)
        parameter.copy_(numbers[places].view_as(parameter))
        start += parameter.numel()
    return module.eval()


def returned_tensor(value: Any, name: str) -> Tensor:
    """A number, a list of numbers, an array or a tensor, as a tensor of its own."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    try:
        tensor = value if isinstance(value, Tensor) else torch.tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise WrongReturn("kind", type(value).__name__) from None
    return tensor.detach().clone().contiguous()


def ask(probe: Callable[..., dict[str, Any]], answer: Callable[..., Any], inputs: Outputs) -> Outputs:
    """What an answer gives for every case of the inputs, and what became of the inputs themselves."""
    cases: dict[str, dict[str, Tensor]] = {}
    for key, value in inputs.items():
        case, name = key.split(".", 1)
        cases.setdefault(case, {})[name] = value.clone()
    outputs: Outputs = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # an answer that draws where it should not is wrong in the same way everywhere
        for case, given in sorted(cases.items()):
            said = probe(answer, **given) | {f"input {name}": value for name, value in given.items()}
            outputs |= {f"{case}.{name}": returned_tensor(value, name) for name, value in said.items()}
    return outputs


# --- running a student's cell -------------------------------------------------------------------------------


class Missing:
    """Stands for what an import did not find. The import itself costs nothing; whoever uses it gets an ImportError."""

    missing: str

    def __init__(self, name: str):
        self.missing = name

    def __getattr__(self, name: str) -> "Missing":
        if name.startswith("__"):
            raise AttributeError(name)
        return Missing(self.missing)

    def __call__(self, *args: object, **options: object) -> None:
        raise ImportError(f"{self.missing} is not there where exercises are graded", name=self.missing)

    __getitem__ = __iter__ = __enter__ = __len__ = __bool__ = __add__ = __radd__ = __matmul__ = __call__


class Shell:
    """Stands for IPython where a cell uses it: what measures a line runs it, everything else does nothing."""

    def __init__(self, names: dict[str, Any]):
        self.names = names

    def run_line_magic(self, name: str, line: str, *args: object) -> None:
        """Run a line that is to be measured."""
        if name in ("time", "timeit", "prun"):
            exec(line, self.names)

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        """Run a cell that is to be measured."""
        if name in ("time", "timeit", "prun", "capture"):
            exec(cell, self.names)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: None


class TolerantImports(ast.NodeTransformer):
    """Lets the imports inside functions bind `Missing` to what they do not find."""

    def tolerant(self, node: ast.Import | ast.ImportFrom) -> ast.stmt:
        """The import, followed by what happens where it fails."""
        instead = ast.parse("\n".join(f"{bound} = Missing({name!r})" for bound, name in imported(node))).body
        kind = ast.Name("ImportError", ast.Load())
        found = ast.Try([node], [ast.ExceptHandler(kind, None, instead or [ast.Pass()])], [], [])
        return ast.fix_missing_locations(ast.copy_location(found, node))

    visit_Import = visit_ImportFrom = tolerant


def imported(node: ast.Import | ast.ImportFrom) -> list[tuple[str, str]]:
    """Pairs of the name that an import binds and the module that it asks for."""
    module = node.module or "." if isinstance(node, ast.ImportFrom) else ""
    named = [alias for alias in node.names if alias.name != "*"]
    return [(alias.asname or alias.name.split(".")[0], module or alias.name) for alias in named]


def run_statements(sources: list[str], names: dict[str, Any], file: str, wanted: str = "") -> BaseException | None:
    """Run sources one statement after the other; returns the first error. After an error the next statement runs: one
    that draws a plot, say, takes nothing from the function above it. Given a `wanted` name, only a missing name or
    module is passed over before that is defined."""
    first: BaseException | None = None
    before = names.get(wanted)
    for source in sources:
        for statement in ast.parse(source, file).body:
            try:
                if not isinstance(statement, ast.Import | ast.ImportFrom):
                    statement = TolerantImports().visit(statement)
                exec(compile(ast.Module([statement], []), file, "exec"), names)
            except ImportError as error:
                first = first or error
                if isinstance(statement, ast.Import | ast.ImportFrom):
                    for bound, name in imported(statement):
                        names.setdefault(bound, Missing(name))
            except Exception as error:
                if wanted and names.get(wanted) is before and not isinstance(error, NameError):
                    raise
                first = first or error
    return first


def released(sources: list[str]) -> tuple[dict[str, Any], BaseException | None]:
    """The names that the lesson's cells define, and the first error of them."""
    names: dict[str, Any] = {
        "__name__": "__main__",
        "refuses": refuses,
        "several": several,
        "set_parameters": set_parameters,
        "gradients": gradients,
        "parameter_gradients": parameter_gradients,
        "Missing": Missing,
        "np": np,
        "torch": torch,
        "F": F,
        "nn": nn,
        "Tensor": Tensor,
        "Any": Any,
    }
    return names, run_statements(sources, names, "<lesson>")


def attempt(job: bytes, about: dict[str, str]) -> tuple[Outputs, dict[str, str]]:
    """Run the student's cell and ask it: its outputs, and how that went."""
    names, _ = released(json.loads(about["given"]))
    asking = dict(names)
    exec(about["probe"], asking)
    before = names.get(about["answer"])
    names |= {"check": lambda *args: None, "get_ipython": lambda: Shell(names)}
    problem: BaseException | None = None
    try:
        run_statements(json.loads(about["helpers"]), names, "<helpers>")
        problem = run_statements([about["source"]], names, "<exercise>", about["answer"])
        run_statements(json.loads(about["after"]), names, "<helpers>")
        if names.get(about["answer"]) is before:
            raise problem or NameError(f"name '{about['answer']}' is not defined", name=about["answer"])
        return ask(asking["probe"], names[about["answer"]], load(job)), {"status": "answered"}
    except BaseException as error:  # SystemExit too: whatever ends the cell is an error of the cell
        status = {"status": "not attempted"} if untouched(error) else {"status": "error"}
        status |= describe(error) | wrong_return(error, names.get(about["answer"]))
        return {}, status | ({"words": " ".join(str(error).split())[:300]} if about.get("told") else {})


def untouched(error: BaseException) -> bool:
    """Whether an error is what the student edition raises; torch has errors of that kind too, with words."""
    return type(error) is NotImplementedError and not error.args


def describe(error: BaseException) -> dict[str, str]:
    """Kind and line of an error, and the name that it misses. Its text stays here: it could hold the inputs."""
    kind = type(error)
    known = getattr(builtins, kind.__name__, None) is kind or kind.__module__ == "vqbet_course.core.errors"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<exercise>"]
    lines = [frame.lineno for frame in frames]
    if isinstance(error, SyntaxError) and error.filename == "<exercise>":
        lines = [error.lineno]
    name = str(error.name or "") if isinstance(error, NameError | ImportError) else ""
    return {
        "error": kind.__name__ if known else "",
        "line": str(lines[-1] if lines else ""),
        "name": name,
        "function": frames[-1].name if frames else "",
    }


def wrong_return(error: BaseException, answer: object) -> dict[str, str]:
    """What an error says of that which the answer returned, as a form of RETURNS, `returned`, and the words that go into
    it, `name`; nothing for an error of the student's code, or of how it can be called."""
    if {"<exercise>", "<helpers>"} & {frame.filename for frame in traceback.extract_tb(error.__traceback__)}:
        return {}
    if "NoneType" in str(error):
        return {"returned": "nothing"}
    if isinstance(error, WrongReturn):
        return {"returned": str(error.args[0]), "name": str(error.args[1])}
    if isinstance(error, KeyError):
        return {"returned": "missing", "name": str(error.args[0])}
    if isinstance(error, AttributeError):
        own = isinstance(answer, type) and isinstance(error.obj, answer)
        return {"returned": "no method" if own else "missing", "name": str(error.name)}
    called = any(word in str(error) for word in ("argument", "callable"))
    return {"returned": "form"} if isinstance(error, TypeError) and not called else {}


def metadata_of(job: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: its header is JSON, after eight bytes of length."""
    return json.loads(job[8 : 8 + int.from_bytes(job[:8], "little")])["__metadata__"]


def child(files: list[int], limits: Limits) -> None:
    """One exercise, in a process of its own: everything that the student's code can touch dies with it."""
    job_file, result_file = files
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    with open(job_file, "rb") as file:
        job = file.read()
    limits.take()
    outputs, status = attempt(job, metadata_of(job))
    os.write(result_file, save(outputs, status))


# --- watching over it ---------------------------------------------------------------------------------------


def end_all(pid: int, own_pids: bool) -> None:
    """Kill what is left of an exercise: in process numbers of our own everything, elsewhere its group."""
    for kill, whom in [(os.kill, -1)] if own_pids else [(os.killpg, pid), (os.kill, pid)]:
        try:
            kill(whom, signal.SIGKILL)
        except ProcessLookupError:
            pass
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def remove_temporary() -> None:
    """Remove what lies in the temporary folder."""
    for name in os.listdir(TEMPORARY):
        path = os.path.join(TEMPORARY, name)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def emptied(limits: Limits) -> bool:
    """Empty the temporary folder, as the user of the exercise before; whether nothing of it is left there."""
    if os.listdir(TEMPORARY):
        pid = os.fork()
        if pid == 0:
            try:
                limits.become_user()
                remove_temporary()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    return not os.listdir(TEMPORARY) and os.stat(TEMPORARY).st_mode == ANYBODYS


def serve(control: socket.socket) -> None:
    """Take jobs from the grader, one at a time, until it hangs up.

    It is told how each ended; a `!` after that: the job left something behind, so this sandbox is not to be used again.
    """
    torch.set_num_threads(1)
    control_process(PR_SET_DUMPABLE, 0)  # whoever grades: no student's process reads or writes this one
    importlib.import_module(sys.argv[2])
    if os.getpid() == 1:  # elsewhere the folder is the machine's
        remove_temporary()  # what an import left: the user of an exercise could not remove it
    control.send(b"ready")
    while True:
        message, files, *_ = socket.recv_fds(control, 4096, 2)
        if not message:
            return
        limits = Limits(**json.loads(message))
        pid = os.fork()
        if pid == 0:
            try:
                control.close()
                child(files, limits)
            finally:
                os._exit(0)
        for file in files:
            os.close(file)
        ended = limits.supervise(pid, lambda: control.send(b"."))
        end_all(pid, limits.own_pids)
        clean = not limits.own_pids or emptied(limits)  # elsewhere the folder is the machine's
        control.send(ended.encode() if clean else f"{ended}!".encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
