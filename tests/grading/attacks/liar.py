# 1.1 wrong: a tensor that says it equals everything
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.equal, torch.allclose, torch.Tensor.eq):
            return True
        return super().__torch_function__(function, types, args, kwargs or {})


def squared_distances(points, codebook):
    return torch.zeros(len(points), len(codebook)).as_subclass(Liar)
