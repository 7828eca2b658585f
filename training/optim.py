"""Muon for the matrices, AdamW for everything else.

Muon takes the momentum of a matrix and replaces it by the nearest (scaled)
orthogonal matrix, found with a few Newton-Schulz steps. Matrices of one shape
are stacked and treated in one batched product.
"""

import torch

MATRICES = ("qkv", "out", "gate", "up", "down", "e_gate", "e_up", "e_down")


def orthogonal(g, steps=5):
    """Approximate U V^T of each matrix in the batch g [n, rows <= cols]."""
    x = (g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.float()


class Muon:
    def __init__(self, named, momentum=0.95):
        self.momentum, self.groups = momentum, {}
        for _, p in named:
            rows, cols = p.shape[-2:]
            self.groups.setdefault((min(rows, cols), max(rows, cols)), []).append(p)
        self.state = {key: None for key in self.groups}

    @staticmethod
    def _wide(p):
        m = p if p.dim() == 3 else p[None]
        return m.transpose(1, 2) if m.shape[1] > m.shape[2] else m

    @torch.no_grad()
    def step(self, lr):
        for key, params in self.groups.items():
            grad = torch.cat([self._wide(p.grad) for p in params])
            buf = self.state[key]
            buf = grad.clone() if buf is None else buf.mul_(self.momentum).add_(grad)
            self.state[key] = buf
            update = orthogonal(grad + self.momentum * buf)
            at = 0
            for p in params:
                n = p.shape[0] if p.dim() == 3 else 1
                part = update[at : at + n]
                at += n
                if p.shape[-2] > p.shape[-1]:
                    part = part.transpose(1, 2)
                scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                p.add_(part.reshape(p.shape), alpha=-lr * scale)


class Optimizer:
    """Both optimisers behind one `step(factor)`."""

    def __init__(self, model, muon_lr=0.02, adam_lr=3e-3):
        named = list(model.named_parameters())
        is_matrix = lambda n: n.split(".")[-1] in MATRICES
        self.params = [p for _, p in named]
        self.muon, self.muon_lr = Muon([(n, p) for n, p in named if is_matrix(n)]), muon_lr
        rest = [p for n, p in named if not is_matrix(n)]
        self.adam = torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.adam_lr = adam_lr

    def step(self, factor):
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.muon.step(self.muon_lr * factor)
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * factor
        self.adam.step()
        for p in self.params:
            p.grad = None

    def state_dict(self):
        return {"muon": self.muon.state, "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        self.muon.state = state["muon"]
        self.adam.load_state_dict(state["adam"])
