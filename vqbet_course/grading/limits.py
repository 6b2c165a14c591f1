"""What code in a sandbox may use: taken on by the process that runs it, and watched by the one above."""

import ctypes
import os
import platform
import resource
import struct
import sys
import time
from collections.abc import Callable, Set
from dataclasses import dataclass

EPERM, ENOSYS = 1, 38

NAMESPACES = 0x7E020000
"""The flags of clone that make a namespace."""

F_SETFL, AF_UNIX = 4, 1

REFUSED: dict[str, tuple[int, int, str]] = {
    # memory that no process is charged for
    "memfd_create": (319, 279, ""),
    "memfd_secret": (447, 447, ""),
    # System V shared memory, message queues and semaphores: they outlive a process
    "shmget": (29, 194, ""),
    "shmctl": (31, 195, ""),
    "shmat": (30, 196, ""),
    "msgget": (68, 186, ""),
    "msgctl": (71, 187, ""),
    "msgrcv": (70, 188, ""),
    "msgsnd": (69, 189, ""),
    "semget": (64, 190, ""),
    "semctl": (66, 191, ""),
    "semtimedop": (220, 192, ""),
    "semop": (65, 193, ""),
    # POSIX message queues outlive a process, too
    "mq_open": (240, 180, ""),
    # sockets other than those of this machine's processes: the loopback remembers its ports
    "socket": (41, 198, "not local"),
    # keys: the session keyring belongs to whoever grades
    "add_key": (248, 217, ""),
    "request_key": (249, 218, ""),
    "keyctl": (250, 219, ""),
    # input and output that the kernel does later, of which a machine has few slots
    "io_setup": (206, 0, ""),
    "io_destroy": (207, 1, ""),
    "io_submit": (209, 2, ""),
    "io_cancel": (210, 3, ""),
    "io_getevents": (208, 4, ""),
    "io_pgetevents": (333, 292, ""),
    "io_uring_setup": (425, 425, ""),
    "io_uring_enter": (426, 426, ""),
    "io_uring_register": (427, 427, ""),
    # namespaces and mounts
    "unshare": (272, 97, ""),
    "setns": (308, 268, ""),
    "mount": (165, 40, ""),
    "umount2": (166, 39, ""),
    "pivot_root": (155, 41, ""),
    "open_tree": (428, 428, ""),
    "move_mount": (429, 429, ""),
    "fsopen": (430, 430, ""),
    "fsconfig": (431, 431, ""),
    "fsmount": (432, 432, ""),
    "fspick": (433, 433, ""),
    "mount_setattr": (442, 442, ""),
    "clone": (56, 220, "namespaces"),
    "clone3": (435, 435, "unknown"),
    # the memory and the files of other processes, and the kernel itself
    "ptrace": (101, 117, ""),
    "process_vm_readv": (310, 270, ""),
    "process_vm_writev": (311, 271, ""),
    "pidfd_getfd": (438, 438, ""),
    "bpf": (321, 280, ""),
    "perf_event_open": (298, 241, ""),
    "userfaultfd": (323, 282, ""),
    # the processor that a sandbox is given, and the limits and the rank of other processes, the runner's among them
    "sched_setaffinity": (203, 122, ""),
    "sched_setscheduler": (144, 119, ""),
    "sched_setparam": (142, 118, ""),
    "sched_setattr": (314, 274, ""),
    "setpriority": (141, 140, ""),
    "ioprio_set": (251, 30, ""),
    "prlimit64": (302, 261, "of others"),
    # O_DIRECT, which makes a file refuse its reader
    "open": (2, -1, "direct 1"),
    "openat": (257, 56, "direct 2"),
    "openat2": (437, 437, "unknown"),
    "fcntl": (72, 25, "set direct"),
}
"""What the kernel refuses: {system call: (its number on x86_64, on aarch64 or -1, when: always where empty)}. A call
that is `unknown` is answered as on a kernel that lacks it, so that the C library takes the older one."""

JUPYTER = {"socket", "sched_setscheduler"}
"""What ZeroMQ, by which a kernel is reached, cannot do without."""

MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The machines whose system calls are known: {name: (its number for filters, its column in REFUSED)}."""

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38


def control_process(*arguments: int) -> None:
    """Linux's prctl for this process; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(*map(ctypes.c_ulong, arguments))


Step = tuple[int, int, int, int]
"""An instruction of the kernel's packet filter: code, where to go if true and if false, a number."""

LOAD, EQUAL, AT_LEAST, HAS_BIT, ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06


def filter_program(machine: str, allowed: Set[str]) -> list[Step]:
    """The filter that refuses the REFUSED calls of a machine but those allowed, as instructions; all jumps go forward.

    A program of our own: libseccomp is not on every Linux, and these few rules need nothing of it.
    """
    number, column = MACHINES[machine]
    refuse, unknown = (ANSWER, 0, 0, 0x00050000 | EPERM), (ANSWER, 0, 0, 0x00050000 | ENOSYS)
    program: list[Step] = [
        (LOAD, 0, 0, 4),
        (EQUAL, 1, 0, number),
        refuse,
        (LOAD, 0, 0, 0),
        (AT_LEAST, 0, 1, 1 << 30),
        refuse,
    ]  # other numberings of the same calls
    for name, (*numbers, when) in REFUSED.items():
        if numbers[column] >= 0 and name not in allowed:
            block = conditions(when, unknown if when == "unknown" else refuse)
            program += [(EQUAL, 0, len(block), numbers[column]), *block]
    return [*program, (ANSWER, 0, 0, 0x7FFF0000)]


def conditions(when: str, refuse: Step) -> list[Step]:
    """What follows where a call has its number: refuse it, or look at its arguments first."""

    def has(argument: int, bits: int) -> list[Step]:  # and load the number of the call again
        return [(LOAD, 0, 0, 16 + 8 * argument), (HAS_BIT, 0, 1, bits), refuse, (LOAD, 0, 0, 0)]

    if when == "namespaces":
        return has(0, NAMESPACES)
    if when.startswith("direct"):
        return has(int(when[-1]), os.O_DIRECT)
    if when in ("not local", "of others"):  # the first argument has to be this number
        return [(LOAD, 0, 0, 16), (EQUAL, 1, 0, AF_UNIX if when == "not local" else 0), refuse, (LOAD, 0, 0, 0)]
    if when == "set direct":
        return [
            (LOAD, 0, 0, 24),
            (EQUAL, 0, 3, F_SETFL),
            (LOAD, 0, 0, 32),
            (HAS_BIT, 0, 1, os.O_DIRECT),
            refuse,
            (LOAD, 0, 0, 0),
        ]
    return [refuse]


def refuse_syscalls(allowed: Set[str]) -> None:
    """Let the kernel refuse the REFUSED system calls but those allowed, in this process and all that it starts."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return
    program = filter_program(platform.machine(), allowed)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filters = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    control_process(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    control_process(PR_SET_SECCOMP, 2, ctypes.addressof(filters))


@dataclass(frozen=True)
class Limits:
    """Limits of one run of a student's code."""

    seconds: int = 10  # of CPU, for each process and for all together
    wall: int = 30  # seconds in all, without those in which it waited for a processor
    memory: int = 2 << 30  # bytes beyond what is held at the start, all processes together
    output: int = 64 << 20  # bytes of the answer, of any other file, and of all files together
    files: int = 10_000  # that may be made
    processes: int = 32  # and threads
    uid: int = 0  # the user to become; 0: no change
    own_pids: bool = False  # whether all processes in sight are the sandbox's
    cpu: int = -1  # the processor to stay on; -1: any
    jupyter: bool = False  # whether it is a notebook, whose kernel needs the calls that JUPYTER names

    def take(self) -> None:
        """Take them on in this process, for it and all that it starts."""
        wanted = {"RLIMIT_CPU": self.seconds, "RLIMIT_FSIZE": self.output, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 256}
        if sys.platform == "linux":  # elsewhere nothing enforces a limit on the address space
            with open("/proc/self/statm") as file:
                wanted["RLIMIT_AS"] = int(file.read().split()[0]) * resource.getpagesize() + self.memory
        if self.own_pids:  # elsewhere the user's other processes would count
            wanted["RLIMIT_NPROC"] = self.processes
        for name, value in wanted.items():
            _, most = resource.getrlimit(getattr(resource, name))
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(getattr(resource, name), (value, value))
        if self.cpu >= 0:
            os.sched_setaffinity(0, [self.cpu])
        self.become_user()
        refuse_syscalls(JUPYTER if self.jupyter else set())

    def become_user(self) -> None:
        """Become the user of these limits, if they have one."""
        if self.uid:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)

    def supervise(self, pid: int, alive: Callable[[], object] = lambda: None) -> str:
        """Wait for a child within the limits; how it ended: finished, died, out of time, out of memory, out of files.

        Calls `alive` about once a second. A machine that is busy with other work costs no time: what counts is how long
        the child ran or slept, and what all its processes computed.
        """
        started, before, files, told = time.monotonic(), self.used(), made_files(), 0.0
        while True:
            done, code, cost = os.wait4(pid, os.WNOHANG)
            if done and os.WIFSIGNALED(code) and cost.ru_utime + cost.ru_stime > self.seconds - 0.5:
                return "out of time"  # the kernel counts in ticks
            if done:
                return "died" if code else "finished"
            passed, now = time.monotonic() - started, self.used()
            if passed - waited(pid) > self.wall or now["cpu"] - before["cpu"] > self.seconds + 1:
                return "out of time"
            if now["bytes"] - before["bytes"] > self.memory:
                return "out of memory"
            if self.own_pids and made_files() - files > self.files:
                return "out of files"
            if passed - told >= 1:
                told = passed
                alive()
            time.sleep(0.01)

    def used(self) -> dict[str, float]:
        """What all processes of the sandbox use together: seconds of `cpu`, and `bytes` that no file backs; 0 outside
        of one."""
        total = {"cpu": 0.0, "bytes": 0.0}
        for name in os.listdir("/proc") if self.own_pids else []:
            try:
                with open(f"/proc/{name}/status") as file:
                    held = [line for line in file if line.startswith(("RssAnon", "RssShmem"))]
                with open(f"/proc/{name}/stat") as file:
                    times = file.read().rpartition(")")[2].split()[11:15]  # its own, and its ended children's
            except OSError:
                continue  # no process, or one that just ended
            total["bytes"] += sum(1024 * int(line.split()[1]) for line in held)
            if name != str(os.getpid()):  # the children of this process are those of earlier exercises
                total["cpu"] += sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
        return total


def waited(pid: int) -> float:
    """Seconds in which the main thread of a process was ready and had no processor; 0 where nobody counts them."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def made_files() -> int:
    """How many files the temporary folder's file system holds."""
    about = os.statvfs("/tmp")
    return about.f_files - about.f_ffree
