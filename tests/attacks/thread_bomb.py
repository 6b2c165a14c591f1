# 1.3 stopped or error: starts threads without end, until its time or the room for their stacks is used up
import threading
import time

while True:
    try:
        threading.Thread(target=time.sleep, args=(1000,)).start()
    except RuntimeError:
        pass
