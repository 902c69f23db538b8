"""The client of object stores, obstore, and its errors in the words of this package.

In: the bucket of a URI. Out: the client. It takes endpoint and credentials from the environment, or from the roles that the
provider gives to a machine. Its own errors quote addresses, which may hold a signature, so none of them is shown.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from qarm_features.extras import naming_extra

_STATUS = re.compile(r"status code: (\d{3} [A-Za-z ]+)")
_OF_AN_OBJECT = ("looked for", "read", "deleted")  # what needs an object that is there
_RETRIES, _SECONDS = 5, 60.0  # how often and how long a request is tried again
_GLANCE_SECONDS = 5.0  # a machine without credentials of its own asks an address for them that may not answer


class ObjectStoreError(OSError):
    """An object store does not do what is asked of it, or a URI names none."""


def obstore_or_extra() -> contextlib.AbstractContextManager[None]:
    """Return a block for imports of obstore, which names the extra that brings it."""
    return naming_extra("Artifacts in an object store", "objects")


@contextlib.contextmanager
def told(place: object, done: str) -> Iterator[None]:
    """Raise what an object store says without its addresses.

    Args:
        place: Path in the object store.
        done: What is done with it in the block: looked for, read, written, listed or deleted.

    Raises:
        FileNotFoundError: There is no object where one is read.
        ObjectStoreError: The store refused, or did not answer.
    """
    with obstore_or_extra():
        from obstore.exceptions import BaseError
    try:
        yield
    except (BaseError, FileNotFoundError, PermissionError, NotImplementedError) as error:
        if isinstance(error, FileNotFoundError) and done in _OF_AN_OBJECT:
            raise FileNotFoundError(f"{place} does not exist.") from None
        status = _STATUS.search(str(error))
        said = type(error).__name__ + (f", {status[1].strip()}" if status else "")
        raise ObjectStoreError(
            f"{place} cannot be {done} ({said}). Check the bucket, its rights, and the variables that hold the endpoint and "
            "the credentials, for example AWS_ENDPOINT_URL, AWS_REGION and AWS_ACCESS_KEY_ID."
        ) from None


@functools.lru_cache(maxsize=8)
def store_of(bucket: str, *, glance: bool = False) -> Any:
    """Return the client of a bucket.

    Args:
        bucket: URI of the bucket, for example ``s3://bucket``.
        glance: True for a look that may fail: it is tried once more, and not for long.
    """
    with obstore_or_extra():
        from obstore.store import from_url
    times, seconds = (1, _GLANCE_SECONDS) if glance else (_RETRIES, _SECONDS)
    retries = {"max_retries": times, "retry_timeout": timedelta(seconds=seconds)}
    return from_url(bucket.replace("s3a://", "s3://"), retry_config=retries)
