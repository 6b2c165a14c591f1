# 1.4 error: reads address 0
import ctypes


def token_usage(tokens, n_codes):
    return ctypes.string_at(0)
