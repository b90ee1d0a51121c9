"""Lab training."""

from memgen.training.base import base_for  # noqa: F401
from memgen.training.dual import train  # noqa: F401
