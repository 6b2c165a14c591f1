# 1.4 passed: is right, and leaves a process behind
# <solution>
import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            time.sleep(1)
    os._exit(0)
