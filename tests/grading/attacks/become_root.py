# 1.2 error: becomes another user
import os

os.setuid(0)


def nearest_code(chunks, codebook):
    return torch.zeros(len(chunks), dtype=torch.int64)
