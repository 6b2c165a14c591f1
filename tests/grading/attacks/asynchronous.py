# 1.2 error: promises to answer later
async def nearest_code(chunks, codebook):
    return torch.zeros(len(chunks), dtype=torch.int64)
