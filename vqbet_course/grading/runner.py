"""Runs inside the sandbox, where a student's code runs: asks, and hands back data.

One process imports torch once. For every exercise it forks a child, which takes the limits, runs the student's cell,
and answers into a file that the grader owns; then every process that is left is killed. This file and `limits` are
all that the sandbox holds of the grader.

A job is a safetensors file: tensors `CASE.NAME` are the inputs; its metadata holds `given` (sources of the cells
before, as JSON), `source` (the student's cell), `probe` (how to ask) and `answer` (the name to ask for). An answer is
one too: tensors `CASE.NAME`, and in its metadata a `status` and where it happened.
"""
import ast
import builtins
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
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


# --- asking (the judge and the notebook's `check` use this part as well) ------------------------------------


def refuses(call: Callable[[], object]) -> bool:
    """Whether a call raises ValueError: it says no. Another error is an accident."""
    try:
        call()
    except ValueError:
        return True
    except Exception:
        return False
    return False


def gradients(value: Tensor, *at: Tensor) -> tuple[Tensor, ...]:
    """The gradients of a number, or of the sum of several, at some tensors; 0 where none arrives."""
    if not value.requires_grad:
        return tuple(torch.zeros_like(x) for x in at)
    return torch.autograd.grad(value.sum(), at, retain_graph=True, allow_unused=True, materialize_grads=True)


@torch.no_grad()
def set_parameters(module: Any, numbers: Tensor) -> Any:
    """Set all parameters of a module from `numbers` (n,), over and over; returns the module, in eval mode."""
    start = 0
    for parameter in module.parameters():
        places = torch.arange(start, start + parameter.numel()) % len(numbers)
        parameter.copy_(numbers[places].view_as(parameter))
        start += parameter.numel()
    return module.eval()


def as_tensor(value: Any, name: str) -> Tensor:
    """A number, a list of numbers, an array or a tensor, as a tensor of its own."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    try:
        tensor = value if isinstance(value, Tensor) else torch.tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"`{name}` is a {type(value).__name__} and no number") from None
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
            outputs |= {f"{case}.{name}": as_tensor(value, name) for name, value in said.items()}
    return outputs


# --- running a student's cell -------------------------------------------------------------------------------


def released(sources: list[str]) -> dict[str, Any]:
    """The names that the cells before define. What needs a package that is not here is left out."""
    names: dict[str, Any] = {"__name__": "__main__", "refuses": refuses, "set_parameters": set_parameters,
                             "gradients": gradients, "np": np, "torch": torch, "F": F, "nn": nn, "Tensor": Tensor, "Any": Any}
    for source in sources:
        for statement in ast.parse(source).body:
            try:
                exec(compile(ast.Module([statement], []), "<given>", "exec"), names)
            except (ImportError, NameError, AttributeError):
                pass
    return names


def attempt(job: bytes, about: dict[str, str]) -> tuple[Outputs, dict[str, str]]:
    """Run the student's cell and ask it: its outputs, and how that went."""
    names = released(json.loads(about["given"]))
    asking = dict(names)
    exec(about["probe"], asking)
    try:
        exec(compile(about["source"], "<exercise>", "exec"), names)
        return ask(asking["probe"], names[about["answer"]], load(job)), {"status": "answered"}
    except BaseException as error:  # SystemExit too: whatever ends the cell is an error of the cell
        return {}, {"status": "not attempted"} if untouched(error) else {"status": "error"} | describe(error)


def untouched(error: BaseException) -> bool:
    """Whether an error is what the student edition raises; torch has errors of that kind too, with words."""
    return type(error) is NotImplementedError and not error.args


def describe(error: BaseException) -> dict[str, str]:
    """Kind and line of an error. Its text stays here: a student could write the inputs into it."""
    known = getattr(builtins, type(error).__name__, None) is type(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<exercise>"]
    if isinstance(error, SyntaxError) and error.filename == "<exercise>":
        lines = [error.lineno]
    return {"error": type(error).__name__ if known else "Exception", "line": str(lines[-1] if lines else "")}


def metadata_of(job: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: its header is JSON, after eight bytes of length."""
    return json.loads(job[8:8 + int.from_bytes(job[:8], "little")])["__metadata__"]


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


def serve(control: socket.socket) -> None:
    """Take jobs from the grader, one at a time, until it hangs up."""
    torch.set_num_threads(1)
    control_process(PR_SET_DUMPABLE, 0)  # whoever grades: no student's process reads or writes this one
    importlib.import_module(sys.argv[2])
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
        ended = limits.supervise(pid)
        end_all(pid, limits.own_pids)
        control.send(ended.encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
