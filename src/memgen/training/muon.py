"""Muon with its matrix products in float32, or in bfloat16 for all matrices of a shape together."""

from __future__ import annotations

from collections import defaultdict

import torch

#: steps of the iteration that are taken on the small side before the whole matrix is looked at again;
#: more, and what rounding does to small singular values grows
TOGETHER = 3
#: rows up to which matrices of one shape are worked on together: the calls cost more than the products
THIN = 32


def orthogonalised(
    update: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """`update` `[..., rows, columns]` with its singular values moved towards 1, by Newton and Schulz.

    Source: Jordan et al. (2024), Muon; the iteration is that of `torch.optim.Muon`. A step multiplies
    from the left with a polynomial of X X^T. Where a matrix is wide, the polynomials of `TOGETHER`
    steps are multiplied with each other before they meet X, on the small side alone: the same product
    with fewer operations. bfloat16 is too coarse for that.
    """
    if update.size(-2) > update.size(-1):
        return orthogonalised(update.mT.contiguous(), coefficients, steps, eps).mT
    x = update / update.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    if x.dtype == torch.bfloat16:
        return _rounded(x, coefficients, steps)
    together = TOGETHER if x.size(-1) >= 2 * x.size(-2) else 1
    for taken in range(0, steps, together):
        x = _polynomials(x @ x.mT, coefficients, min(together, steps - taken)) @ x
    return x


def _rounded(x: torch.Tensor, coefficients: tuple[float, float, float], steps: int) -> torch.Tensor:
    """The steps one by one, rounded where `torch.optim.Muon` rounds; `x` `[matrices, rows, columns]`."""
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _polynomials(
    gram: torch.Tensor, coefficients: tuple[float, float, float], steps: int
) -> torch.Tensor:
    """What `steps` steps multiply with: P(G) = a + b G + c G^2 of each in turn, G <- P(G) G P(G)."""
    a, b, c = coefficients
    found = None
    for left in range(steps, 0, -1):
        one = (gram @ gram).mul_(c).add_(gram, alpha=b)
        one.diagonal(dim1=-2, dim2=-1).add_(a)
        found = one if found is None else one @ found
        if left > 1:
            gram = one @ gram @ one
    return found


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`; its state is the same.

    `dtype`: of the products. torch's are in bfloat16 whatever the model is trained in, one matrix
    after the other.
    """

    def __init__(self, params, dtype: torch.dtype = torch.float32, **how):
        super().__init__(params, **how)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step. `closure` is not for this optimiser: `ValueError`."""
        if closure is not None:
            raise ValueError("Muon takes its step without a closure")
        for group in self.param_groups:
            for together in _alike(group["params"], self.dtype == torch.bfloat16):
                momenta = [self._momentum(p, group) for p in together]
                alone = len(momenta) == 1 and self.dtype == torch.float32
                updates = orthogonalised(
                    momenta[0] if alone else torch.stack(momenta).to(self.dtype),
                    group["ns_coefficients"],
                    group["ns_steps"],
                    group["eps"],
                )
                for p, update in zip(together, [updates] if alone else updates):
                    # the rate that gives an update the size of AdamW's. Source: Liu et al. (2025),
                    # Muon is scalable for LLM training
                    rate = group["lr"] * 0.2 * max(p.shape) ** 0.5
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _momentum(self, p: torch.Tensor, group: dict) -> torch.Tensor:
        """The gradient's running mean, or with Nesterov what lies between the two."""
        state = self.state[p]
        if not state:  # in the first step
            state["momentum_buffer"] = torch.zeros_like(p.grad)
        buffer = state["momentum_buffer"]
        buffer.lerp_(p.grad, 1 - group["momentum"])
        return p.grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer


def _alike(parameters: list[torch.Tensor], thick: bool) -> list[list[torch.Tensor]]:
    """Parameters with a gradient: thin ones of one shape together, the others alone or so as well."""
    found = defaultdict(list)
    for number, p in enumerate(parameters):
        if p.grad is not None:
            found[tuple(p.shape) if thick or min(p.shape) <= THIN else number].append(p)
    return list(found.values())
