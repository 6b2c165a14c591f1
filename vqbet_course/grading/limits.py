"""What code in a sandbox may use: taken on by the process that runs it, and watched by the one above."""
import ctypes
import os
import platform
import resource
import struct
import sys
import time
from dataclasses import dataclass

SYSCALLS = {
    # memfd_create, memfd_secret, shmget, msgget: memory that no process is charged for; mount, fsopen, unshare: a disk
    # made of memory; io_uring_setup; ptrace, process_vm_readv, process_vm_writev: the memory of other processes
    "x86_64": (0xC000003E, (319, 447, 29, 68, 165, 430, 272, 425, 101, 310, 311)),
    "aarch64": (0xC00000B7, (279, 447, 194, 186, 40, 430, 97, 425, 117, 270, 271)),
}
"""What the kernel refuses: {machine: (its number for filters, the system calls)}."""

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38


def control_process(*arguments: int) -> None:
    """Linux's prctl for this process; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(*map(ctypes.c_ulong, arguments))


def refuse_syscalls() -> None:
    """Let the kernel answer the SYSCALLS of this machine with EPERM, in this process and all that it starts."""
    if sys.platform != "linux" or platform.machine() not in SYSCALLS:
        return
    machine, refused = SYSCALLS[platform.machine()]
    end = 5 + len(refused)  # the last instruction, which refuses; all jumps are relative
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    program = [(load, 0, 0, 4), (equal, 0, end - 2, machine), (load, 0, 0, 0), (at_least, end - 4, 0, 1 << 30),
               *((equal, end - place - 1, 0, number) for place, number in enumerate(refused, 4)),
               (answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x00050001)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filters = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    control_process(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    control_process(PR_SET_SECCOMP, 2, ctypes.addressof(filters))


@dataclass(frozen=True)
class Limits:
    """Limits of one run of a student's code."""

    seconds: int = 10  # of CPU, for each process
    wall: int = 30  # seconds in all: more, so that a busy machine costs nobody a point
    memory: int = 2 << 30  # bytes beyond what is held at the start, all processes together
    output: int = 64 << 20  # bytes of the answer, of any other file, and of all files together
    processes: int = 32  # and threads
    uid: int = 0  # the user to become; 0: no change
    own_pids: bool = False  # whether all processes in sight are the sandbox's

    def take(self) -> None:
        """Take them on in this process, for it and all that it starts."""
        wanted = {"RLIMIT_CPU": self.seconds, "RLIMIT_FSIZE": self.output, "RLIMIT_CORE": 0,
                  "RLIMIT_NOFILE": 256}
        if sys.platform == "linux":  # elsewhere nothing enforces a limit on the address space
            with open("/proc/self/statm") as file:
                wanted["RLIMIT_AS"] = int(file.read().split()[0]) * resource.getpagesize() + self.memory
        if self.own_pids:  # elsewhere the user's other processes would count
            wanted["RLIMIT_NPROC"] = self.processes
        for name, value in wanted.items():
            resource.setrlimit(getattr(resource, name), (value, value))
        if self.uid:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
        refuse_syscalls()

    def supervise(self, pid: int) -> str:
        """Wait for a child within the limits; how it ended: finished, died, out of time, out of memory."""
        deadline, before = time.monotonic() + self.wall, self.resident()
        while time.monotonic() < deadline:
            done, code, used = os.wait4(pid, os.WNOHANG)
            if done and os.WIFSIGNALED(code) and used.ru_utime + used.ru_stime > self.seconds - 0.5:
                return "out of time"  # the kernel counts in ticks
            if done:
                return "died" if code else "finished"
            if self.resident() - before > self.memory:
                return "out of memory"
            time.sleep(0.01)
        return "out of time"

    def resident(self) -> int:
        """Bytes that all processes of the sandbox hold together, without what files back; 0 outside of one."""
        total = 0
        for name in os.listdir("/proc") if self.own_pids else []:
            try:
                with open(f"/proc/{name}/status") as file:
                    held = [line for line in file if line.startswith(("RssAnon", "RssShmem"))]
                total += sum(1024 * int(line.split()[1]) for line in held)
            except OSError:
                pass  # no process, or one that just ended
        return total
