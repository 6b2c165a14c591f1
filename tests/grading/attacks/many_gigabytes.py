# 1.1 stopped: lets many processes allocate, each below the limit of one
import mmap
import os
import time

for _ in range(8):
    if os.fork() == 0:
        held = mmap.mmap(-1, 1 << 30)
        for start in range(0, 1 << 30, 1 << 20):
            held[start:start + (1 << 20)] = b'x' * (1 << 20)
        time.sleep(1000)
time.sleep(1000)
