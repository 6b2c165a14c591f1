# 1.4 error: allocates 10 GB
def token_usage(tokens, n_codes):
    return torch.ones(10 << 30, dtype=torch.uint8)
