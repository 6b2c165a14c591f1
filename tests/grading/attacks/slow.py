# 1.4 stopped: is right, a thousand times too slowly
# <solution>
import time

right = token_usage


def token_usage(tokens, n_codes):
    time.sleep(30)
    return right(tokens, n_codes)
