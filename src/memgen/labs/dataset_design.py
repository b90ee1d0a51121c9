"""Lab dataset_design."""

from memgen.tasks import make_task  # noqa: F401
