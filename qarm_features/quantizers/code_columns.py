"""Codes beside the keys of rows. The embeddings are read by the tasks that quantize them, and are sent nowhere else.

In: a DataFrame and a fitted model. Out: a DataFrame of keys and codes::

    item_id  embedding           item_id  rq_codes
    7        [0.6, 0.8]     ->   7        [1, 0, 5]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import ArrayType, IntegerType, StructField, StructType

from qarm_features.quantizers.passes.parquet_scan import ParquetScan, plain_scan, read_splits
from qarm_features.quantizers.rq_models import RQModel
from qarm_features.storage.sql_names import column_of


def codes_beside(model: RQModel, dataset: DataFrame, *keys: str) -> DataFrame:
    """Quantize rows and return some of their columns with the codes.

    Args:
        model: Fitted model.
        dataset: Rows with the model's input column. Arrow reads a plain scan of Parquet files, see ``parquet_scan``.
        keys: Names of the columns to return.

    Returns:
        The same rows as ``model.transform(dataset).select(*keys, outputCol)``.
    """
    output = model.getOutputCol()
    key_columns = [column_of(key) for key in keys]
    scan = plain_scan(dataset.select(*key_columns, model.embeddings(dataset)))
    if scan is None or not scan.partitions:
        return model.transform(dataset).select(*key_columns, column_of(output))
    key_fields = [dataset.schema[key] for key in keys]
    schema = StructType([*key_fields, StructField(output, ArrayType(IntegerType()))])
    types = [to_arrow_type(field.dataType) for field in key_fields]
    parts = dataset.sparkSession.range(0, len(scan.partitions), numPartitions=len(scan.partitions))
    worker = partial(_code_splits, scan=scan, types=types, names=schema.names, encode=model.encoder())
    return parts.mapInArrow(worker, schema)


def _code_splits(
    batches: Iterator[pa.RecordBatch],
    scan: ParquetScan,
    types: list[pa.DataType],
    names: list[str],
    encode: Callable[[pa.Array], pa.Array],
) -> Iterator[pa.RecordBatch]:
    """Yield keys and codes of the partitions of a scan that are named in the batches."""
    for part in (part for batch in batches for part in batch.column(0).to_pylist()):
        for rows in read_splits(scan.partitions[part], scan.columns):
            keys = [column.cast(kind) for column, kind in zip(rows.columns, types)]
            yield pa.RecordBatch.from_arrays([*keys, encode(rows.columns[-1])], names)
