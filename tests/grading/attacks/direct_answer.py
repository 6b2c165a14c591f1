# 1.2 passed: would make the answer's file refuse its reader
import fcntl
import os

for file in range(3, 64):
    for change in (lambda: fcntl.fcntl(file, fcntl.F_SETFL, os.O_DIRECT),
                   lambda: os.open(f'/proc/self/fd/{file}', os.O_RDWR | os.O_DIRECT)):
        try:
            change()
        except OSError:
            pass

# <solution>
