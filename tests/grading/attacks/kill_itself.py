# 1.3 error: kills its own process
import os
import signal


def kmeans(points, n_codes, n_iters=20, generator=None):
    os.kill(os.getpid(), signal.SIGKILL)
