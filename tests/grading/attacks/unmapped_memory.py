# 1.2 error: keeps gigabytes in shared memory that no process has mapped
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
for _ in range(5):
    segment = libc.shmget(0, 1 << 29, 0o1600)
    if segment < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    address = libc.shmat(segment, None, 0)
    ctypes.memset(address, 1, 1 << 29)
    libc.shmdt(ctypes.c_void_p(address))


def nearest_code(chunks, codebook):
    return torch.zeros(len(chunks), dtype=torch.int64)
