"""IDs of a request in the type of the catalog, by the rules with which ingest reads IDs.

In: a list, a numpy array or a tensor of IDs. Out: Python integers or strings, and None for an ID that is missing, which is
served as not found. ::

    requested       integer IDs   string IDs
    10              10            "10"
    10.0            10            "10"        pandas makes floats of a column of integers that has a null
    " 10 "          10            "10"
    "10.0"          10            "10.0"      text stays as it is: 1.0 and 1 can be two items
    None, NaN, ""   not found     not found
    10.5, True      TypeError     TypeError
    "abc"           TypeError     "abc"
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import feast.types
import numpy as np
import torch
from feast import FeatureView
from torch import Tensor

IDs: TypeAlias = Sequence[int | None] | Sequence[str | None] | Sequence[int | str | None] | np.ndarray | Tensor
RequestedID: TypeAlias = int | str | None

_SPACES = " \t\r\n\f\v\u00a0\ufeff"
_NULL_TEXTS = frozenset(("", "null", "NULL", "None", "nan", "NaN", "<NA>", "\\N"))
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0+)?", re.ASCII)
_DOUBLE_LIMIT = 2**53  # from here on, several integers share one float
_INT64 = range(-(2**63), 2**63)


def listed_ids(ids: IDs, name: str, view: FeatureView) -> list[RequestedID]:
    """Return the IDs of a request in the type of a view's entity, None where an ID is missing.

    Args:
        ids: B IDs.
        name: Name of the caller's argument, for the error.
        view: View whose entity column has the expected type.

    Raises:
        TypeError: ``ids`` is not a list, or one of them cannot be an ID of this type.
    """
    is_string = view.entity_columns[0].dtype == feast.types.String
    listed, limit = _listed(ids, name), _limit(ids)
    kinds = set(map(type, listed))
    if kinds <= {int} and not is_string and (not listed or (min(listed) in _INT64 and max(listed) in _INT64)):
        return listed
    read = _string if is_string else _integer
    return [read(one, name, limit) for one in listed]


def _listed(ids: IDs, name: str) -> list[Any]:
    if isinstance(ids, str | bytes):
        raise TypeError(f"{name} is {ids!r}, must be a list of IDs. Put the ID into a list.")
    if isinstance(ids, np.ndarray | Tensor):
        if ids.ndim != 1:
            raise TypeError(f"{name} has shape {tuple(ids.shape)}, must have one dimension.")
        return list(ids.tolist())
    return list(ids)


def _limit(ids: IDs) -> float:
    """Return the number from which on several integers share one float of the array's type."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind == "f":
        return float(2 / np.finfo(ids.dtype).eps)
    if isinstance(ids, Tensor) and ids.is_floating_point():
        return 2 / torch.finfo(ids.dtype).eps
    return _DOUBLE_LIMIT


def _integer(one: Any, name: str, limit: float) -> int | None:
    if isinstance(one, str):
        text = one.strip(_SPACES)
        if text in _NULL_TEXTS:
            return None
        if not _WHOLE.fullmatch(text):
            raise _error(one, name, "integers")
        number = int(text.split(".")[0])
        if "." in text and abs(number) >= _DOUBLE_LIMIT:
            raise _error(one, name, "integers")
    else:
        whole = _whole_number(one, name, limit, "integers")
        if whole is None:
            return None
        number = whole
    return number if number in _INT64 else None  # no item of the catalog has such an ID


def _string(one: Any, name: str, limit: float) -> str | None:
    if isinstance(one, str):
        text = str(one).strip(_SPACES)
        return None if text in _NULL_TEXTS else text
    number = _whole_number(one, name, limit, "strings")
    return None if number is None else str(number)


def _whole_number(one: Any, name: str, limit: float, kind: str) -> int | None:
    """Return a number as an integer, None if it is missing."""
    if one is None or type(one).__name__ in ("NAType", "NaTType"):  # of pandas
        return None
    if isinstance(one, int | np.integer) and not isinstance(one, bool):
        return int(one)
    if isinstance(one, np.floating):
        limit = min(limit, float(2 / np.finfo(one.dtype).eps))
    if isinstance(one, float | np.floating):
        number = float(one)
        if math.isnan(number):
            return None
        if number.is_integer() and abs(number) < limit:
            return int(number)
    if isinstance(one, Decimal) and one.is_nan():
        return None
    if isinstance(one, Decimal) and one.is_finite() and one == one.to_integral_value():
        return int(one)
    raise _error(one, name, kind)


def _error(one: Any, name: str, kind: str) -> TypeError:
    return TypeError(f"{name} holds {one!r}, must be {kind} as in the catalog.")
