# 1.1 wrong: returns the object that it was given
def squared_distances(points, codebook):
    return points.zero_()
