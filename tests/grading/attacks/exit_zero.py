# 1.1 error: leaves with a status of success
import sys

sys.exit(0)
