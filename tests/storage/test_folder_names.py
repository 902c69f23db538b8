"""The folder of a warehouse may have any name that Spark and delta-rs read in the same way."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from qarm_features.storage.plain_files import commits_of
from qarm_features.storage.tables import ITEMS
from qarm_features.storage.warehouse import TableError, Warehouse

IDS = {"item_id_type": "integer", "user_id_type": "integer"}


@pytest.mark.parametrize("name", ["a b", "a`b", "it's", "#1", "50%", "für", "a,b", "{y}", "a?b", "<b>", "x&y=z", "😀"])
def test_files_of_a_table_are_found_in_a_folder_of_any_name(tmp_path, name):
    (tmp_path / name).mkdir()
    write_deltalake(str(tmp_path / name / "items"), pa.table({"item_id": [1], "title": ["Lamp"]}))
    warehouse = Warehouse(str(tmp_path / name), **IDS)

    files = warehouse.files(ITEMS)

    assert [Path(file).is_file() for file in files] == [True]
    assert warehouse.arrow(ITEMS).count_rows() == 1
    assert len(commits_of(DeltaTable(warehouse.path(ITEMS)), warehouse.path(ITEMS))) == 1


@pytest.mark.parametrize("name", ["%20x", "a%2Fb", "a[x]", "a|b", "a^b", "back\\slash", "a\nb"])
def test_a_folder_that_would_be_read_as_another_one_is_refused(tmp_path, name):
    with pytest.raises(TableError, match="(?s)The warehouse is .*, must be a folder without"):
        Warehouse(str(tmp_path / name), **IDS)
