"""Queries for rows of the online store, the rows that answer them, and what a source of rows must offer.

In: a view and entity IDs. Out: the keys under which Feast stores the entities, and the errors that all sources raise.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import feast.types
from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import ValueType

from qarm_features.feature_store.feast_internals import entity_key_prefix

Row = Sequence[bytes | None]
"""One serialized value per feature; None or empty if the store holds no value."""


class RowQuery(NamedTuple):
    """A question to the online store that takes one round trip.

    Attributes:
        view: View to read, with one entity column of integers or strings.
        features: Names of features of the view.
        ids: Entity IDs without repetition.
    """

    view: FeatureView
    features: tuple[str, ...]
    ids: list[int | str]


class OnlineRows(Protocol):
    """A source of rows that any number of threads may read at once."""

    def fetch(self, query: RowQuery) -> Sequence[Row]:
        """Read one row per ID in one round trip.

        Raises:
            TimeoutError: The store did not answer in time.
            ConnectionError: The connection was lost twice in a row.
            OnlineStoreError: The store refused the read, for example because of a wrong password.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class AsyncOnlineRows(Protocol):
    """A source of rows that any number of tasks on one event loop may read at once."""

    async def fetch(self, query: RowQuery) -> Sequence[Row]:
        """Read one row per ID in one round trip. It raises the errors of ``OnlineRows.fetch``."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def entity_keys(view: FeatureView, ids: Sequence[int | str]) -> list[bytes]:
    """Return the keys under which Feast stores entities.

    The result equals Feast's ``serialize_entity_key``, serialization version 3, for a view with one entity column.

    Args:
        view: View whose entity column names the key and its type.
        ids: Entity IDs, all integers or all strings.
    """
    column = view.entity_columns[0]
    prefix = entity_key_prefix([column.name])
    if column.dtype == feast.types.String:
        encoded = [str(entity_id).encode() for entity_id in ids]
        pack = struct.Struct("<II").pack
        return [prefix + pack(ValueType.STRING, len(one)) + one for one in encoded]
    pack = struct.Struct("<IIq").pack
    return [prefix + pack(ValueType.INT64, 8, entity_id) for entity_id in ids]


def timeout_error(timeout: float | None, store: str) -> TimeoutError:
    """Return the error for a store that did not answer in time.

    Args:
        timeout: Limit in seconds; None for the limit of the store's own client.
        store: Name of the store.
    """
    limit = "the time limit of its client" if timeout is None else f"{timeout} s"
    return TimeoutError(f"{store} did not answer within {limit}. Raise timeout, or check that the store is running.")


def connection_error(store: str, error: Exception) -> ConnectionError:
    """Return the error for a store whose connection was lost twice in a row."""
    return ConnectionError(f"The connection to {store} was lost twice ({error}). Check that the store is running.")
