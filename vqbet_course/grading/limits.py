"""What code in a sandbox may use: taken on by the process that runs it, and watched by the one above."""
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one run of a student's code."""

    seconds: int = 10  # wall clock and CPU, each
    memory: int = 2 << 30  # bytes beyond what is held at the start, all processes together
    output: int = 64 << 20  # bytes of the answer, of any other file, and of all files together
    processes: int = 32  # and threads
    uid: int = 0  # the user to become; 0: no change
    own_pids: bool = False  # whether all processes in sight are the sandbox's

    def take(self) -> None:
        """Take them on in this process, for it and all that it starts."""
        wanted = {"RLIMIT_CPU": self.seconds + 1, "RLIMIT_FSIZE": self.output, "RLIMIT_CORE": 0}
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

    def supervise(self, pid: int) -> str:
        """Wait for a child within the limits; how it ended: finished, died, out of time, out of memory."""
        deadline, before = time.monotonic() + self.seconds, self.resident()
        while time.monotonic() < deadline:
            done, code = os.waitpid(pid, os.WNOHANG)
            if done and code:
                return "out of time" if os.WTERMSIG(code) == signal.SIGXCPU else "died"
            if done:
                return "finished"
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
