"""Which kernels a process computes with: the fastest of its processor, or the same on every one.

The last bits of a sum depend on the order in which a kernel adds, and that on the instruction set
that a library finds; training amplifies them into another checkpoint. `portable` pins every library
to one set of kernels (AVX2, MKL's code path that is the same on all makers' processors, and for matrix
products, where that one is slow, oneDNN's: `memgen.store.products`), float32 and one thread. What stays
as it is on each processor are torch's sqrt, asin, acos and atan, which are MKL's approximations: the
study uses numpy's. `tests/torture/processors.py` compares a run with emulated processors. The pins are
environment variables, read when a library is loaded: they have to be there
before Python starts, so a process that lacks them is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from memgen.config.base import StageParameters
from memgen.errors import StudyError

#: by library what pins it. Sources: pytorch.org/docs (ATEN_CPU_CAPABILITY); oneMKL's guide on
#: conditional numerical reproducibility (MKL_CBWR); oneDNN's CPU dispatcher control; OpenBLAS's
#: README (OPENBLAS_CORETYPE); numpy's build options (NPY_DISABLE_CPU_FEATURES)
PORTABLE: dict[str, str] = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",
    "MEMGEN_THREADS": "1",
}


def environment(numerics: str) -> dict[str, str]:
    """What a process needs in its environment to compute with these kernels."""
    return dict(PORTABLE) if numerics == "portable" else {}


def require(numerics: str, found: Mapping[str, str] | None = None) -> None:
    """Raise `StudyError` unless this process was started for these kernels."""
    found = os.environ if found is None else found
    wanted = environment(numerics)
    missing = {name: value for name, value in wanted.items() if found.get(name) != value}
    if missing:
        settings = " ".join(f"{name}={value}" for name, value in missing.items())
        raise StudyError(
            f"numerics={numerics} needs a process that was started with {settings}; `make` does it"
            f" (NUMERICS={numerics}), elsewhere start Python or Jupyter behind `env {settings}`"
        )


#: values of ONEDNN_MAX_CPU_ISA under which oneDNN leaves bfloat16 units unused. Source: oneDNN's CPU
#: dispatcher control
_ISA_WITHOUT_UNITS = (
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"),
    *("AVX512_CORE", "AVX512_CORE_VNNI"),
)
#: what torch calls such units: x86's vector and matrix extensions, ARM's
_UNITS = ("avx512_bf16", "amx_bf16", "bf16")
#: parameters that may be left to the machine
LEFT_TO_THE_MACHINE = ("precision", "dtype")
Settled = TypeVar("Settled", bound=StageParameters)


def bfloat16_units(device: str = "cpu", found: Mapping[str, str] | None = None) -> bool:
    """Does this device multiply matrices in bfloat16 itself, and may this process use that?

    Without such units bfloat16 is emulated, slower than float32. `found`: the process's environment.
    """
    import torch

    found = os.environ if found is None else found
    if device.startswith("cuda"):
        return bool(
            torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        )
    if device != "cpu" or found.get("ONEDNN_MAX_CPU_ISA", "").upper() in _ISA_WITHOUT_UNITS:
        return False
    capabilities: dict[str, Any] = torch.cpu.get_capabilities()
    return any(capabilities.get(unit) for unit in _UNITS)


def settled(parameters: Settled) -> Settled:
    """The same parameters, `auto` replaced by what this machine computes with.

    What is settled here is what a stage records: on this machine, or another with such units, the
    stage stays up to date. numerics=portable settles on float32.
    """
    left = [name for name in LEFT_TO_THE_MACHINE if getattr(parameters, name, "") == "auto"]
    if not left:
        return parameters
    fast = parameters.numerics == "native" and bfloat16_units(getattr(parameters, "device", "cpu"))
    chosen = "bfloat16" if fast else "float32"
    return parameters.model_copy(update=dict.fromkeys(left, chosen))
