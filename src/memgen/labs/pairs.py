"""Lab pairs."""

from memgen.neurons.pairs import answer_conflicts  # noqa: F401
