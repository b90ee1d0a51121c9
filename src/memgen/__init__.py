"""Memorization and generalization in language models: see them, predict them, steer them.

One process uses one thread: two labs run side by side on two cores, and numbers must not depend on
how many happen to be free. MEMGEN_THREADS, set before Python starts, changes it (and perhaps the
last digits). What the libraries of Hugging Face are told comes from here alone: no network, little
chatter, downloaded models from MEMGEN_HF_HOME (else from ~/.cache/huggingface).
"""

import os as _os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    _os.environ[_name] = _os.environ.get("MEMGEN_THREADS", "1")
for _name in [*_os.environ]:
    if _name.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TOKENIZERS_")):
        del _os.environ[_name]
_os.environ["TOKENIZERS_PARALLELISM"] = "false"
_os.environ["HF_HUB_OFFLINE"] = "1"
_os.environ["TRANSFORMERS_VERBOSITY"] = "error"
_os.environ["HF_HOME"] = _os.environ.get("MEMGEN_HF_HOME") or _os.path.join(
    _os.path.expanduser("~"), ".cache", "huggingface"
)

__version__ = "0.1.0"
