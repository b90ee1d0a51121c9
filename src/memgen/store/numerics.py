"""Which kernels a process computes with: the fastest of its processor, or the same on every one.

The last bits of a sum depend on the order in which a kernel adds, and that on the instruction set
that a library finds; training amplifies them into another checkpoint. `portable` pins every library
to one set of kernels (AVX2, MKL's code path that is the same on all makers' processors), float32 and
one thread. These are environment variables, read when a library is loaded: they have to be there
before Python starts, so a process that lacks them is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

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
