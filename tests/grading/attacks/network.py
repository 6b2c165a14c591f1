# 1.3 error: asks the internet
import socket

socket.create_connection(('1.1.1.1', 53), timeout=1)


def kmeans(points, n_codes, n_iters=20, generator=None):
    return points[:n_codes]
