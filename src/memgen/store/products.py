"""Matrix products of portable numerics: oneDNN's, limited to AVX2, in the place of MKL's.

MKL gives the same bits on all makers' processors only in its slowest code path. oneDNN writes its
kernels for an instruction set and not for a maker, and splits a product by that alone, so that
with `ONEDNN_MAX_CPU_ISA=AVX2` and one thread it adds in the same order everywhere, at the speed that
AVX2 has. torch uses it for other formats than float32; here float32 goes the same way.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@functools.cache
def use_onednn() -> None:
    """From now on this process multiplies float32 matrices on the CPU by oneDNN."""
    import torch  # some labs do without

    library = torch.library.Library("aten", "IMPL")
    own: dict[str, Any] = {
        name: torch.library.get_kernel(f"aten::{name}", "CPU") for name in ("mm", "addmm")
    }
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)

    def fits(a: torch.Tensor, b: torch.Tensor) -> bool:
        return a.dtype == b.dtype == torch.float32 and bool(a.numel() and b.numel())

    def product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        # [rows, inner] times [inner, columns]; oneDNN's operator wants the second one turned, and takes
        # longer to put the first one in order than a copy does
        return torch.ops.mkldnn._linear_pointwise(a.contiguous(), b.T, bias, "none", [], "")

    def mm(a: torch.Tensor, b: torch.Tensor) -> Any:
        return product(a, b) if fits(a, b) else own["mm"].call_boxed(key, a, b)

    def addmm(
        bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Any:
        if not fits(a, b):
            return own["addmm"].call_boxed(key, bias, a, b, beta=beta, alpha=alpha)
        if bias.ndim == 1 and beta == 1 and alpha == 1:
            return product(a, b, bias)
        return product(a, b).mul_(alpha).add_(bias, alpha=beta)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that a kernel is replaced, which is meant
        library.impl("mm", mm, "CPU", allow_override=True)
        library.impl("addmm", addmm, "CPU", allow_override=True)
    _KEPT.append(library)  # what it registers ends with it


_KEPT: list[torch.library.Library] = []
