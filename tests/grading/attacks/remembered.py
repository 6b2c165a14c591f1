# 1.1 wrong: is right once, and then remembers
# <solution>
right, first = squared_distances, []


def squared_distances(points, codebook):
    first.append(right(points, codebook))
    return first[0]
