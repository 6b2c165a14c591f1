# 1.3 stopped: starts threads without end
import threading
import time

while True:
    try:
        threading.Thread(target=time.sleep, args=(1000,)).start()
    except RuntimeError:
        pass
