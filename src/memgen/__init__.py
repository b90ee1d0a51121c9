"""Memorization and generalization in language models: see them, predict them, steer them.

One process uses one thread: two labs run side by side on two cores, and numbers must not depend on
how many happen to be free. MEMGEN_THREADS, set before Python starts, changes it (and perhaps the
last digits).
"""

import os as _os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    _os.environ[_name] = _os.environ.get("MEMGEN_THREADS", "1")
_os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
_os.environ.setdefault("HF_HUB_OFFLINE", "1")
_os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

__version__ = "0.1.0"
