# 1.2 wrong: tokens as floats
# <solution>
right = nearest_code


def nearest_code(chunks, codebook):
    return right(chunks, codebook).float()
