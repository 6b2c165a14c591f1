# 1.2 error: becomes another user
import os

os.setuid(0)
