"""Name the extra of ``qarm-features`` that brings a package which is not installed.

In: a block of imports. Out: nothing, or an ``ImportError`` that says what to install.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def naming_extra(purpose: str, extra: str) -> Iterator[None]:
    """Turn the failed import of a package inside a ``with`` block into an error that names the extra to install.

    Args:
        purpose: Subject of the message: the thing that needs the package.
        extra: Name of the extra, for example ``torch``.

    Yields:
        Nothing.

    Raises:
        ImportError: A package of others is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "qarm_features"):
            raise
        raise ImportError(
            f"{purpose} need the package {package}, which is not installed. Run: pip install 'qarm-features[{extra}]'",
            name=package,
        ) from error
