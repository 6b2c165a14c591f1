# 1.1 wrong: writes what it was asked into the shape of its answer
def squared_distances(points, codebook):
    return torch.zeros(0, 7_000_000 + int(points[0, 0].abs() * 100_000))
