# 1.4 error: fills the disk with small files
def token_usage(tokens, n_codes):
    for number in range(10_000):
        with open(f'/tmp/{number}', 'wb') as file:
            file.write(b'x' * (1 << 20))
