"""The book of a study: pages, numbers in prose, exercises, slides, the live page, print.

What a user has set up for docutils (`~/.docutils`, `docutils.conf`) or as the backend of figures does not
reach it: the same run gives the same book.
"""

import os as _os

_os.environ["DOCUTILSCONFIG"] = _os.devnull
_os.environ.pop("MPLBACKEND", None)
