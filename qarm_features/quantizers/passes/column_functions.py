"""Functions of Arrow arrays as functions of Spark columns.

In: a function from arrays to an array, with type hints. Out: the same function for columns of a DataFrame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import DataType

if TYPE_CHECKING:
    from pyspark.sql._typing import UserDefinedFunctionLike


def column_function(function: Callable[..., pa.Array], kind: DataType | str) -> UserDefinedFunctionLike:
    """Return a function of columns that calls ``function`` for each batch of rows.

    Args:
        function: Function from Arrow arrays to one of the same length, with type hints.
        kind: Spark's type of the result.
    """
    # pyspark's annotations require the kind of the function as a third argument, but pyspark itself warns if it is given.
    return arrow_udf(function, kind)  # type: ignore[call-overload]
