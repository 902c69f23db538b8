"""JSON Lines that nobody cleaned."""

from __future__ import annotations

import pytest

from qarm_features.catalog.reading.source_rows import IngestError
from tests.catalog.sources import ingest_items, ingest_log, write


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"sku": "2", "name": "Cup"} {"sku": "3", "name": "Pot"}', "text follows the JSON object"),
        ('{"sku": "2", "name": "Cup"}, rest', "text follows the JSON object"),
        ('{"sku": "2", "name": "Cup"', "the line is not a JSON object"),
        ('"2"', "the line is not a JSON object"),
        ("{'sku': '2', 'name': 'Cup'}", "the line is not a JSON object"),
        ('{"sku": "2", "name": "Cup", "sku": "3"}', "the JSON object has a key twice"),
        ('{"sku": "\\ud800", "name": "Cup"}', "a text holds one half of a surrogate pair"),
        ("[" * 100_000, "the line is not a JSON object"),
        ("\u00a0", "the line is not a JSON object"),
        ("\f", "the line is not a JSON object"),
    ],
)
def test_a_line_that_is_not_one_object_is_rejected_whole(spark, tmp_path, line, reason):
    file = write(
        tmp_path / "items.jsonl",
        f'{{"sku": "1", "name": "Lamp", "about": "x"}}\n\n{line}\n  {{"sku": "4", "name": "Can"}} \n',
    )

    accepted, rejected = ingest_items(spark, file)

    assert accepted == [("1", "Lamp", "Lamp. x"), ("4", "Can", "Can")]
    assert rejected == [("items.jsonl", 3, reason)]


def test_broken_bytes_are_rejected_by_line_and_other_encodings_are_read(spark, tmp_path):
    content = '{"sku": "café", "name": "Lamp", "about": null}\n'
    file = write(tmp_path / "items.jsonl", content.encode("latin-1") + content.encode())

    accepted, rejected = ingest_items(spark, file)

    assert accepted == [("café", "Lamp", "Lamp")]
    assert rejected == [("items.jsonl", 1, "the line is not valid in the encoding utf-8")]
    for encoding in ("latin-1", "utf-16"):
        assert ingest_items(spark, write(file, content, encoding), encoding=encoding) == (
            [("café", "Lamp", "Lamp")],
            [],
        )


def test_a_misspelt_column_is_named_with_those_present(spark, tmp_path):
    file = write(tmp_path / "items.jsonl", '{"sku": "1", "name": "Lamp", "abuot": "x"}\n')

    with pytest.raises(
        IngestError, match="The source of items has no column about. Present: abuot, name, sku. Change items:"
    ):
        ingest_items(spark, file)


def test_a_column_that_appears_late_is_found(spark, tmp_path):
    lines = [f'{{"sku": "{n}", "name": "Lamp"}}' for n in range(3000)]
    file = write(tmp_path / "items.jsonl", "\n".join([*lines, '{"sku": "x", "name": "Cup", "about": "late"}']))

    accepted, rejected = ingest_items(spark, file)

    assert (len(accepted), accepted[-1], rejected) == (3001, ("x", "Cup", "Cup. late"), [])


def test_a_json_array_is_refused_with_the_way_to_convert_it(spark, tmp_path):
    file = write(tmp_path / "items.json", '[\n{"sku": "1", "name": "Lamp", "about": "x"}\n]\n')

    with pytest.raises(IngestError, match="items.json is one JSON array, and items.format is jsonl.*jq"):
        ingest_items(spark, file)


def test_digits_of_numbers_are_kept_as_they_stand(spark, tmp_path):
    file = write(tmp_path / "log.jsonl", '{"user": 9007199254740993, "item": 1.50, "at": 10, "rating": 4.0}\n')

    accepted, rejected = ingest_log(spark, file)

    assert (accepted, rejected) == ([("9007199254740993", "1.50", 10, 1)], [])


def test_folders_give_columns_that_the_objects_lack(spark, tmp_path):
    write(tmp_path / "log" / "at=10" / "a.jsonl", '{"user": "u", "item": "i", "rating": 5}\n')
    write(tmp_path / "log" / "at=20" / "b.jsonl", '{"user": "u", "item": "i", "rating": 1}\n')

    accepted, _ = ingest_log(spark, tmp_path / "log", format="jsonl")

    assert accepted == [("u", "i", 10, 1), ("u", "i", 20, 0)]
