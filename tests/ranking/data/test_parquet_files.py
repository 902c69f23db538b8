"""Training reads the files of a table wherever the table is."""

import pyarrow as pa
import pyarrow.parquet as pq

from qarm_features.ranking.data.parquet_files import read_footers
from qarm_features.storage.objects import ObjectPath


def test_the_files_of_a_table_on_s3_are_opened_under_the_name_that_spark_gives_them(bucket, tmp_path):
    pq.write_table(pa.table({"item_id": [7, 8]}), tmp_path / "part.parquet")
    (ObjectPath(bucket) / "split=train" / "part.parquet").upload(tmp_path / "part.parquet")

    found = read_footers([f"{bucket.replace('s3://', 's3a://')}/split=train/part.parquet"])

    assert [(group.num_rows, found.columns) for group in found.row_groups] == [(2, {"item_id"})]
