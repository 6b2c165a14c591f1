"""Where a student's code runs: bubblewrap where it works, limits everywhere.

A sandbox holds the interpreter, torch, numpy and einops with what they need, and the modules of the earlier lessons.
It has no network, no files of the machine, no view of its processes; started by root, the code in it runs as a user
that nothing belongs to. See `runner` for what happens inside.
"""

import ast
import atexit
import functools
import json
import multiprocessing
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType

import vqbet_course
from vqbet_course.core.notebooks import source_of
from vqbet_course.grading.grades import Ungradable
from vqbet_course.grading.lessons import Lab
from vqbet_course.grading.limits import Limits

PACKAGE = Path(vqbet_course.__file__).parent
RUNNER = Path(__file__).with_name("runner.py")
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
"""Where the shared libraries of the interpreter and of torch lie."""

HELD = ("torch", "numpy", "einops", "safetensors", "torchvision", "scipy", "matplotlib", "tqdm", "gymnasium")
"""The packages that a student's code may import; safetensors carries inputs in and answers out."""

AHEAD = {"torch.optim": "torch._dynamo", "torchvision": "torchvision"}
"""What a sandbox imports before the first exercise, for labs that hold a text: an optimizer imports the first when it is
made; both take seconds, which no student's limit should pay."""

STARTING_S = 600
"""How long a sandbox may take to import torch, on a busy machine."""

SILENT_S = 15
"""How long a sandbox that is at work may say nothing."""


# --- what goes in -------------------------------------------------------------------------------------------


def requirements(roots: Sequence[str]) -> set[str]:
    """The names of distributions that some need, themselves included."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:  # for another platform
            continue
        if name not in found:
            found.add(name)
            parsed = [Requirement(need) for need in needs]
            todo += [need.name for need in parsed if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


@functools.cache
def packages() -> dict[str, Path]:
    """What a sandbox binds of site-packages: {name of a folder or file: where it lies}."""
    found: dict[str, Path] = {}
    for name in requirements(HELD):
        installed = distribution(name)
        for file in installed.files or []:
            top = file.parts[0]
            if top != ".." and not top.endswith((".dist-info", ".pth")) and top != "__pycache__":
                found[top] = Path(str(installed.locate_file(top)))
    return found


def imported_modules(source: str) -> set[str]:
    """The modules of this package that a source may import: `convert`, `convert.source`, `convert.source.Source` of
    `from vqbet_course.datasets.readers.source import Source`. Relative imports count from the package's top."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            package, _, module = ("." * node.level + (node.module or "")).partition(".")
            if package == ("" if node.level else PACKAGE.name):
                for name in node.names:
                    parts = [*filter(None, module.split(".")), name.name]
                    found |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
    return found


def earlier_modules(lab: Lab) -> dict[str, str]:
    """Sources {file: text} of the modules that a lab builds on, and of those that they build on in turn."""
    limits = "grading/limits.py"  # for the runner
    found = {"__init__.py": "", "grading/__init__.py": "", limits: (PACKAGE / limits).read_text(encoding="utf-8")}
    todo = set().union(*(imported_modules(source_of(cell)) for cell in lab.exported))
    while todo:
        place = todo.pop().replace(".", "/")
        for name in (f"{place}.py", f"{place}/__init__.py"):
            if name not in found and (PACKAGE / name).is_file():
                found[name] = (PACKAGE / name).read_text(encoding="utf-8")
                todo |= imported_modules(found[name])
    assert f"{lab.module}.py" not in found, "a lesson must not import what it exports"
    return found


# --- bubblewrap ---------------------------------------------------------------------------------------------


def bind(path: Path | str, at: Path | str | None = None) -> list[str]:
    """Show a path inside, read-only, with parents that everybody may enter."""
    path, at = Path(path), Path(at or path)
    parents = [["--perms", "0755", "--dir", str(parent)] for parent in reversed(at.parents[:-1])]
    shown = ["--symlink", os.readlink(path), str(at)] if path.is_symlink() else ["--ro-bind", str(path), str(at)]
    return [*sum(parents, []), *shown] if path.exists() else []


def interpreter() -> list[str]:
    """Arguments of bwrap that show this interpreter and its standard library, without anybody's site-packages."""
    library = sysconfig.get_config_vars("LIBDIR", "INSTSONAME")
    paths = [*SYSTEM, sysconfig.get_path("stdlib"), os.path.realpath(sys.executable), os.path.join(*library)]
    hidden = [Path(sysconfig.get_path("stdlib")) / "site-packages", *Path("/usr/lib").glob("python3*/dist-packages")]
    return [*sum((bind(path) for path in paths), []), *sum((["--tmpfs", str(path)] for path in hidden), [])]


def bubblewrap(shown: Sequence[str], tmp_size: int) -> list[str]:
    """The start of a command that runs in a sandbox: `shown` are bwrap's arguments for what can be read there."""
    return [
        "bwrap",
        "--die-with-parent",
        "--as-pid-1",  # bwrap's own first process has no limits, and an ordinary user's code could write its memory
        "--new-session",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
        *whose_user(),
        "--perms",
        "1777",
        "--size",
        str(tmp_size),
        "--tmpfs",
        "/tmp",  # first: what is shown may lie below it
        *shown,
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--remount-ro",
        "/dev",
        "--chdir",
        "/tmp",
        "--remount-ro",
        "/",
    ]


def whose_user() -> list[str]:
    """Arguments of bwrap that say as which user it runs what it runs."""
    if os.getuid() != 0:
        return ["--unshare-user"]
    if free_users():  # the runner becomes one of them for each exercise
        return ["--cap-drop", "ALL", *sum((["--cap-add", f"CAP_{c}"] for c in ("SETUID", "SETGID", "KILL")), [])]
    return ["--unshare-user", "--uid", NOBODY, "--gid", NOBODY, "--cap-drop", "ALL"]


NOBODY = "65534"


@functools.cache
def free_users() -> range:
    """Numbers of users that root can become and that nothing belongs to; none where root is mapped alone, as in some
    containers."""
    mapped = [users_in(Path(f"/proc/self/{kind}_map").read_text()) for kind in ("uid", "gid")]
    for wanted in (range(2_000_000, 3_000_000), range(60_000, 65_000)):
        if all(any(wanted[0] in part and wanted[-1] in part for part in parts) for parts in mapped):
            return wanted
    return range(0)


def users_in(text: str) -> list[range]:
    """The users that a map of the kernel names: lines of the first one inside, the first one outside, how many."""
    rows = [[int(number) for number in line.split()] for line in text.splitlines()]
    return [range(first, first + n) for first, _, n in rows]


@functools.cache
def sandbox_problem() -> str:
    """Why bubblewrap does not work here, and what to do; empty where it runs this interpreter: tried, not assumed."""
    if not shutil.which("bwrap"):
        return "it is not installed; install it (apt-get install bubblewrap)"
    command = [*bubblewrap(interpreter(), 1 << 20), os.path.realpath(sys.executable), "-I", "-S", "-c", "pass"]
    done = subprocess.run(command, capture_output=True, timeout=STARTING_S)
    if done.returncode == 0:
        return ""
    said = " ".join(done.stderr.decode(errors="replace").split())[-200:] or f"exit status {done.returncode}"
    if said.startswith("bwrap:") and "execvp" not in said:  # bubblewrap itself, before it ran anything
        return (
            f"this machine refuses namespaces ({said}); allow them (sysctl -w user.max_user_namespaces=15000 and, "
            "where there is one, kernel.apparmor_restrict_unprivileged_userns=0), or grade as root or in a virtual machine"
        )
    return f"it does not run this Python ({said}); use a Python that lies in /usr, or in a folder that all can read"


def bubblewrap_works() -> bool:
    """Whether bubblewrap is here and runs this interpreter."""
    return not sandbox_problem()


@functools.cache
def filters_work() -> bool:
    """Whether the kernel refuses the system calls that it is told to refuse: tried, not assumed."""
    tried = "\nrefuse_syscalls(set())\nwith open('/proc/self/status') as file:\n    sys.exit('Seccomp:\\t2' not in file.read())"
    source = (PACKAGE / "grading" / "limits.py").read_text(encoding="utf-8") + tried
    command = [sys.executable, "-I", "-S", "-c", source]
    return sys.platform == "linux" and subprocess.run(command, capture_output=True).returncode == 0


def unenforced() -> list[str]:
    """What is not enforced on this machine, in words."""
    unfiltered = (
        [] if filters_work() else ["the kernel refuses no system calls, so that code can leave something behind"]
    )
    if bubblewrap_works():
        return unfiltered
    missing = [
        *unfiltered,
        "the network is open",
        "files of this machine, solutions among them, can be read",
        "the code runs as the user who grades",
        "a process that leaves its group lives on",
        "the number of processes is not limited",
    ]
    return missing if sys.platform == "linux" else [*missing, "memory is not limited"]


def where_it_runs(limits: Limits) -> Limits:
    """The limits as they are on this machine; root's sandboxes each have a user that nothing belongs to."""
    isolated = bubblewrap_works()
    uid = secrets.choice(free_users()) if isolated and os.getuid() == 0 and free_users() else 0
    return replace(limits, uid=uid, own_pids=isolated, cpu=own_processor())


def own_processor() -> int:
    """The processor for the sandboxes of this process, where it is one of several that grade; else -1."""
    number = re.search(r"SpawnProcess-(\d+)$", multiprocessing.current_process().name)
    if number is None or sys.platform != "linux":
        return -1
    here = sorted(os.sched_getaffinity(0))
    return here[int(number[1]) % len(here)]


ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",
    "USER": "student",
    "MPLBACKEND": "agg",
}


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the time being. Those that a killed process left behind are removed first."""
    for left in Path(tempfile.gettempdir()).glob(f"{SCRATCH}-*-*"):
        owner = left.name.split("-")[-2]
        ended = owner.isdecimal() and Path("/proc").exists() and not Path(f"/proc/{owner}").exists()
        if ended and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}-{os.getpid()}-") as folder:
        yield Path(folder)


SCRATCH = "vqbet-course-grading"


def in_a_session(
    command: Sequence[str],
    files: Sequence[int],
    environment: dict[str, str],
    cwd: str,
    errors: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own: it inherits these open files, reads nothing, and what it prints, but for
    its errors, goes nowhere."""
    return subprocess.Popen(
        command,
        pass_fds=files,
        env=environment,
        cwd=cwd,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )


class Sandbox:
    """A process with torch loaded that runs the exercises of submissions of one lab, one after the other.

    It is started when the first job comes, and again when a job has brought it down or left something behind.
    """

    def __init__(self, lab: Lab):
        self.lab = lab
        self.process: subprocess.Popen[bytes] | None = None
        self.resources = ExitStack()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        self.resources.close()

    @functools.cached_property
    def folder(self) -> Path:
        """Where there is no bubblewrap: a folder with what the lab may import."""
        folder = self.resources.enter_context(scratch_folder())
        write_modules(self.lab, folder)
        return folder

    def mentions(self, text: str) -> bool:
        """Whether the lab's exported cells hold a text."""
        return any(text in source_of(cell) for cell in self.lab.exported)

    def command(self, files: ExitStack) -> tuple[list[str], list[int]]:
        """What starts the runner, without its arguments, and the open files that it inherits; `files` closes them."""
        python = os.path.realpath(sys.executable)
        if not bubblewrap_works():
            return [python, "-I", "-S", str(RUNNER)], []
        shown = [*interpreter(), *bind(RUNNER, "/runner.py")]
        shown += sum((bind(path, f"/packages/{name}") for name, path in packages().items()), [])
        inherited = []
        for name, text in earlier_modules(self.lab).items():  # no file of them is on the disk
            held = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            held.write(text.encode())
            held.seek(0)
            inherited.append(held.fileno())
            at = Path("/course") / PACKAGE.name / name
            shown += sum((["--perms", "0755", "--dir", str(parent)] for parent in reversed(at.parents[:-1])), [])
            shown += ["--perms", "0644", "--file", str(held.fileno()), str(at)]
        return [*bubblewrap(shown, Limits.output), python, "-I", "-S", "/runner.py"], inherited

    def start(self) -> None:
        """Start it, unless it runs. Raises Ungradable when that does not work."""
        if self.process is not None and self.process.poll() is None:
            return
        self.stop()
        self.control, inside = socket.socketpair()
        root = "" if bubblewrap_works() else str(self.folder)
        ahead = next((module for text, module in AHEAD.items() if self.mentions(text)), "torch")
        with ExitStack() as files:
            command, inherited = self.command(files)
            command += [str(inside.fileno()), ahead, f"{root}/packages", f"{root}/course"]
            self.process = in_a_session(
                command, [inside.fileno(), *inherited], ENVIRONMENT, root or "/", errors=subprocess.PIPE
            )
            inside.close()
            self.control.settimeout(STARTING_S)
            try:
                said = self.control.recv(16)
            except TimeoutError:
                self.stop()
                raise Ungradable(
                    f"the sandbox did not start within {STARTING_S} s; run the same command again"
                ) from None
        if said != b"ready":
            assert self.process.stderr is not None
            why = self.process.stderr.read().decode(errors="replace").strip()
            self.stop()
            raise Ungradable(f"the sandbox does not start: {why[-300:]}")

    def stop(self) -> None:
        """Kill it, and with it whatever it holds."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.control.close()
            assert self.process.stderr is not None
            self.process.stderr.close()
            self.process = None

    def run(self, job: bytes, limits: Limits) -> tuple[str, bytes]:
        """Run a job; how it ended (`finished`, `out of time`, `out of memory`, `out of files`, `died`, `stuck`), and
        what it wrote."""
        self.start()
        with tempfile.TemporaryFile() as job_file, tempfile.TemporaryFile() as result:
            job_file.write(job)
            job_file.seek(0)
            self.control.settimeout(SILENT_S)  # the runner keeps the time; this is for one that no longer can
            said, gone = "", ""
            try:
                message = json.dumps(asdict(where_it_runs(limits))).encode()
                socket.send_fds(self.control, [message], [job_file.fileno(), result.fileno()])
                while not said.strip("."):
                    said = self.control.recv(64).decode()
                    if not said:
                        gone = "died"
                        break
            except TimeoutError:
                gone = "stuck"
            except OSError:
                gone = "died"
            if gone or said.endswith("!"):
                self.stop()
            return gone or said.strip(".!"), os.pread(result.fileno(), limits.output, 0)


KEPT: dict[str, Sandbox] = {}
"""The sandbox that waits for the next answer, by its lab; never more than one, for each holds torch."""


@contextmanager
def kept_sandbox(lab: Lab, keep: bool = True) -> Iterator[Sandbox]:
    """A sandbox for answers to a lab: the one that is kept, else a new one. `keep` it for those to come: starting one
    takes longer than all exercises of a lab."""
    sandbox = KEPT.pop(lab.name, None) or Sandbox(lab)
    end_kept()
    with ExitStack() as ends:
        ends.push(sandbox)
        yield sandbox
        if keep:  # nothing went wrong
            ends.pop_all()
            KEPT[lab.name] = sandbox


@atexit.register
def end_kept() -> None:
    """End the sandbox that is kept."""
    while KEPT:
        KEPT.popitem()[1].__exit__(None, None, None)


def write_modules(lab: Lab, folder: Path) -> None:
    """Write what a sandbox of a lab holds into a folder: `course` with the earlier modules, `packages` as links."""
    course = folder / "course" / PACKAGE.name
    for name, text in earlier_modules(lab).items():
        (course / name).parent.mkdir(parents=True, exist_ok=True)
        (course / name).write_text(text, encoding="utf-8")
    (folder / "packages").mkdir()
    for name, path in packages().items():
        (folder / "packages" / name).symlink_to(path)
