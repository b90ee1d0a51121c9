"""Muon with its matrix products in float32, for processors on which bfloat16 is emulated."""

from __future__ import annotations

import torch


def orthogonalised(
    update: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """`update` [rows, columns] with its singular values moved towards 1, by Newton and Schulz.

    Source: Jordan et al. (2024), Muon; the iteration is that of `torch.optim.Muon`, which does it in
    bfloat16 whatever the model is trained in.
    """
    if update.size(0) > update.size(1):
        return orthogonalised(update.T, coefficients, steps, eps).T
    a, b, c = coefficients
    x = update / update.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, in float32; its state is the same."""

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step. `closure` is not for this optimiser: `ValueError`."""
        if closure is not None:
            raise ValueError("Muon takes its step without a closure")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:  # in the first step
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                buffer = state["momentum_buffer"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
                update = orthogonalised(
                    update, group["ns_coefficients"], group["ns_steps"], group["eps"]
                )
                # the rate that gives an update the size of AdamW's. Source: Liu et al. (2025), Muon is
                # scalable for LLM training
                rate = group["lr"] * 0.2 * max(p.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)
