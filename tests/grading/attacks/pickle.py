# 1.4 error: an answer that would run code when it is unpickled
import os


class Bomb:
    def __reduce__(self):
        return os.system, ('touch /tmp/unpickled',)


def token_usage(tokens, n_codes):
    return Bomb()
