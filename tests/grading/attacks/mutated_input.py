# 1.3 wrong: is right, and ruins what it was given
# <solution>
right = kmeans


def kmeans(points, n_codes, n_iters=20, generator=None):
    answer = right(points, n_codes, n_iters, generator)
    points.zero_()
    return answer
