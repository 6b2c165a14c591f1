# 1.4 error: asks a port of this machine
import socket

for port in (22, 80, 8888, 8786):
    try:
        socket.create_connection(('127.0.0.1', port), timeout=0.2)
        break
    except OSError:
        continue
else:
    raise ConnectionRefusedError


def token_usage(tokens, n_codes):
    return type('Usage', (), {'counts': tokens, 'share_used': 1.0, 'perplexity': 1.0, 'dead': []})
