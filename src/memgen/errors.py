"""Errors a user can act on: one sentence that names the thing and says what to do."""

from __future__ import annotations


class StudyError(Exception):
    """An error that is the user's to mend. Notebooks show its message alone, no traceback."""

    def _render_traceback_(
        self,
    ) -> list[str]:  # IPython's hook for exceptions that print themselves
        return [f"{type(self).__name__}: {self}"]


class ParameterError(StudyError):
    """A parameter is unknown, has the wrong type or lies outside its range."""


class ArtifactError(StudyError):
    """An input is missing, damaged or another run's; or the disk is full, or the folder in use."""


class EndedError(ArtifactError):
    """The work was ended from outside: by a signal, or by the system as memory ran out."""


class InapplicableError(StudyError):
    """A lab's question cannot be asked of this run; a study goes on without it, and says so."""


class ArchitectureError(StudyError, ValueError):
    """A model whose architecture has no known sites."""
