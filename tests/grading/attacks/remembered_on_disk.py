# 1.2 wrong: keeps its first answer in a file
# <solution>
import os

right = nearest_code


def nearest_code(chunks, codebook):
    if not os.path.exists('/tmp/answer.pt'):
        torch.save(right(chunks, codebook), '/tmp/answer.pt')
    return torch.load('/tmp/answer.pt')
