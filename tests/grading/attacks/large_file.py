# 1.3 error: writes a file of 1 GB
def kmeans(points, n_codes, n_iters=20, generator=None):
    with open('/tmp/large', 'wb') as file:
        for _ in range(1024):
            file.write(b'x' * (1 << 20))
    return points[:n_codes]
