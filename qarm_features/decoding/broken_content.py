"""Define ``BrokenContent``, which is raised for a row that cannot be read.

In and out: nothing. It stands alone because the decoding process does not load torch, and other modules do.
"""

from __future__ import annotations


class BrokenContent(ValueError):
    """Report that the content of one row cannot be decoded.

    ``str(error)`` is the reason, which never contains the content itself.
    """
