# 1.4 stopped: never ends
def token_usage(tokens, n_codes):
    while True:
        pass
