"""Errors that name the extra of qarm-features to install if a package is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_EXTRAS = {
    "feast": "feast",
    "psycopg": "postgres",
    "pyspark": "feast",
    "redis": "redis",
    "sqlalchemy": "feast",
    "torch": "torch",
}


@contextlib.contextmanager
def naming_the_extra() -> Iterator[None]:
    """Replace the error of a missing package by one that says which extra to install.

    Raises:
        ImportError: A package of one of our extras is not installed, also if Feast reported it as an error of its own.
    """
    try:
        yield
    except Exception as error:
        package = _missing_package(error)
        if package is None:
            raise
        extra = _EXTRAS[package]
        message = (
            f"The feature store needs {package}, which is not installed. Run: pip install 'qarm-features[{extra}]'"
        )
        raise ImportError(message, name=package) from error


def _missing_package(error: BaseException | None) -> str | None:
    """Return the package of our extras whose import failed, from an error or the errors that led to it."""
    while error is not None:
        package = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if package in _EXTRAS:
            return package
        error = error.__cause__ or error.__context__
    return None
