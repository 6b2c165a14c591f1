# 1.4 error: an answer with thousands of names, which take their reader many times their length in memory
import json
import os

names = {f'{n}': {'dtype': 'U8', 'shape': [0], 'data_offsets': [0, 0]} for n in range(5_000)}
header = json.dumps(names).encode()
for file in range(3, 64):
    try:
        os.pwrite(file, len(header).to_bytes(8, 'little') + header, 0)
    except OSError:
        pass
os._exit(0)
