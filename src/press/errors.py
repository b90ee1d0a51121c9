"""The book's own errors: one sentence that names the thing and says what to do."""

from __future__ import annotations

from memgen.errors import StudyError


class BookError(StudyError):
    """The book cannot be built: something it shows is missing, or a page asks for what is not there."""


class TeachingError(StudyError):
    """An exercise notebook or quiz lacks the form that its page and the student's version need."""


class SlideError(StudyError):
    """A figure for slides cannot be drawn from what the run left."""


class BrowserError(StudyError):
    """There is no Chromium, or it did not do what it was told."""


class PrintError(StudyError):
    """There is no book to print, or Chromium could not print it."""
