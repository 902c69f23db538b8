"""CSV files that nobody cleaned: every line is read as meant, or rejected by its file and line."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pytest

from qarm_features.catalog.reading.source_rows import IngestError
from tests.catalog.sources import ingest_items, ingest_log, write


def test_each_file_is_read_by_its_own_header(spark, tmp_path):
    write(tmp_path / "log" / "a.csv", "user,item,at,rating\nu1,i1,10,5\n")
    write(tmp_path / "log" / "b.csv", "item,user,rating,at\ni2,u2,1,20\n")
    write(tmp_path / "log" / "c.csv", "at,note,user,item,rating\n30,x,u3,i3,4\n")
    write(tmp_path / "log" / "empty.csv", "")
    write(tmp_path / "log" / "header_alone.csv", "user,item,at,rating\n")

    accepted, rejected = ingest_log(spark, tmp_path / "log", format="csv")

    assert accepted == [("u1", "i1", 10, 1), ("u2", "i2", 20, 0), ("u3", "i3", 30, 1)]
    assert rejected == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("u2,i2,20,1\n", "has no column user, item, at, rating.*The file is .*b.csv.*If the file has no header"),
        ("user,item,at\nu2,i2,20\n", "has no column rating. Present: user, item, at.*b.csv"),
        ("user;item;at;rating\nu2;i2;20;1\n", "b.csv.*a semicolon between its fields, it seems: set delimiter to ';'"),
        ("user,item,at,rating,user\nu2,i2,20,1,u3\n", "header of .*b.csv names user twice"),
        (
            'user,item,at,"rating\nu2,i2,20,1\n',
            "first line of .*b.csv cannot be read, because a quoted field is not closed",
        ),
        (
            "usér,item\n".encode("latin-1"),
            "first line of .*b.csv is not valid in the encoding utf-8: us.xe9r,item. Set inter",
        ),
        ("user,item,at,rating\n".encode("utf-16"), "b.csv begins with the mark of UTF-16, .*encoding is utf-8"),
        (gzip.compress(b"user,item,at,rating\n", mtime=0), "b.csv is packed by gzip, so its name must end with .gz"),
    ],
)
def test_a_file_that_is_not_what_the_settings_say_is_named(spark, tmp_path, content, message):
    write(tmp_path / "log" / "a.csv", "user,item,at,rating\nu1,i1,10,5\n")
    write(tmp_path / "log" / "b.csv", content)

    with pytest.raises(IngestError, match=message):
        ingest_log(spark, tmp_path / "log", format="csv")


@pytest.mark.parametrize("column", ["rating", "note"])
def test_a_quote_that_is_not_closed_costs_its_own_line(spark, tmp_path, column):
    last = {"rating": ('"5', "4"), "note": ('5,"good', "4,x")}[column]
    header = "user,item,at,rating" + (",note" if column == "note" else "")
    lines = [f"u{n},i{n},{n},{last[n == 3]}" if n in (2, 3) else f"u{n},i{n},{n},{last[1]}" for n in range(1, 1001)]
    file = write(tmp_path / "log.csv", "\n".join([header, *lines, ""]))

    accepted, rejected = ingest_log(spark, file)

    assert len(accepted) == 999
    assert rejected == [("log.csv", 3, "a quoted field is not closed")]


def test_a_quoted_field_may_hold_delimiters_quotes_and_line_breaks(spark, tmp_path):
    file = write(
        tmp_path / "items.csv", 'sku,name,about\n1,"Big, ""red""","two\r\n\nlines"\n2,5" nail,plain\n\n3,"",x\n'
    )

    accepted, rejected = ingest_items(spark, file)

    assert accepted == [
        ("1", 'Big, "red"', 'Big, "red". two\n\nlines'),
        ("2", '5" nail', '5" nail. plain'),
        ("3", None, "x"),
    ]
    assert rejected == []


def test_lines_that_a_quote_may_have_swallowed_are_rejected_one_by_one(spark, tmp_path):
    file = write(
        tmp_path / "items.csv", 'sku,name,about\n1,"Lamp,x\n2,Cup,y\n3,Pen,z",too,many\n4,Pot,w\n5,"Can",v "w"\n'
    )

    accepted, rejected = ingest_items(spark, file)

    assert accepted == [("4", "Pot", "Pot. w"), ("5", "Can", 'Can. v "w"')]
    inside = "the line may belong to a quoted field of an earlier line"
    assert rejected == [
        ("items.csv", 2, "a quoted field is not closed"),
        ("items.csv", 3, inside),
        ("items.csv", 4, inside),
    ]


def test_records_after_a_quote_that_is_not_closed_are_kept_though_another_quote_seems_to_close_it(spark, tmp_path):
    file = write(tmp_path / "items.csv", 'sku,name,about\n1,"Lamp,x\n2,Cup,y\n3,Pen,", red"\n4,Pot,w\n')

    accepted, rejected = ingest_items(spark, file)

    assert accepted == [("2", "Cup", "Cup. y"), ("3", "Pen", "Pen. , red"), ("4", "Pot", "Pot. w")]
    assert rejected == [("items.csv", 2, "a quoted field is not closed")]


def test_rows_with_fields_too_few_or_too_many_are_told_apart(spark, tmp_path):
    file = write(tmp_path / "items.csv", 'sku,name,about\n1,Lamp\n2,Cup,a,b\n3,"Pot"s,x\n4,Can,y\n')

    accepted, rejected = ingest_items(spark, file)

    assert accepted == [("4", "Can", "Can. y")]
    assert rejected == [
        ("items.csv", 2, "the row has fewer fields than the header"),
        ("items.csv", 3, "the row has more fields than the header"),
        ("items.csv", 4, "text follows a closing quote"),
    ]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-be", "utf-32", "shift_jis"]
)
def test_every_encoding_is_read_as_named(spark, tmp_path, encoding):
    name = "ﾊｻﾐ" if encoding == "shift_jis" else "Café"
    file = write(tmp_path / "items.csv", f'sku,name,about\r\n1,{name},"a\r\nb"\r\n{name},Lamp,\r\n', encoding)

    accepted, rejected = ingest_items(spark, file, encoding=encoding)

    assert accepted == sorted([("1", name, f"{name}. a\nb"), (name, "Lamp", "Lamp")])
    assert rejected == []


@pytest.mark.parametrize(("encoding", "bad"), [("utf-8", b"\xe9"), ("ascii", b"\xc3\xa9"), ("utf-16-le", b"\x00\xd8")])
def test_bytes_that_are_not_valid_in_the_encoding_are_rejected_by_line(spark, tmp_path, encoding, bad):
    lines = [line.encode(encoding) for line in ("sku,name,about\n", "1,Lamp,x\n", "a", ",Cup,y\n", "3,Pot,z\n")]
    file = write(tmp_path / "items.csv", b"".join([*lines[:3], bad, *lines[3:]]))

    accepted, rejected = ingest_items(spark, file, encoding=encoding)

    assert [item for item, _, _ in accepted] == ["1", "3"]
    assert rejected == [("items.csv", 3, f"the line is not valid in the encoding {encoding}")]


def test_two_ids_that_differ_in_a_broken_byte_are_not_merged(spark, tmp_path):
    file = write(tmp_path / "items.csv", b"sku,name,about\ncaf\xe9,One,x\ncaf\xe8,Two,x\n")

    accepted, _ = ingest_items(spark, file, encoding="latin-1")

    assert [item for item, _, _ in accepted] == ["cafè", "café"]


def test_dat_files_with_two_colons_and_no_header_are_read(spark, tmp_path):
    file = write(tmp_path / "ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n")
    names = ["user", "item", "rating", "at"]

    accepted, rejected = ingest_log(spark, file, delimiter="::", quote=None, header=names)

    assert accepted == [("1", "1193", 978300760, 1), ("1", "661", 978302109, 0)]
    assert rejected == []
    numbered = {"user_id": "1", "item_id": "2", "label": "3", "event_timestamp": "4"}
    assert ingest_log(spark, file, delimiter="::", header=False, **numbered) == (accepted, [])
    with pytest.raises(IngestError, match=r"has 4 fields, and interactions.header names 2: 1::1193"):
        ingest_log(spark, file, delimiter="::", header=["user", "item"], **{"label": None, "event_timestamp": "item"})
    write(file, "user::item::rating::at\n1::1193::5::978300760\n")
    with pytest.raises(IngestError, match=r"ratings.dat begins with a header, and interactions.header gives"):
        ingest_log(spark, file, delimiter="::", header=names)


def test_quoted_fields_are_read_with_a_delimiter_of_two_characters(spark, tmp_path):
    file = write(tmp_path / "ratings.dat", "user::item::rating::at\n'u::1'::i'2::5::10\n'u::2::i::5::10\n")

    accepted, rejected = ingest_log(spark, file, delimiter="::", quote="'")

    assert accepted == [("u::1", "i'2", 10, 1)]
    assert rejected == [("ratings.dat", 3, "a quoted field is not closed")]


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".tsv.zst", ".tsv.bz2"])
def test_tab_separated_and_packed_files_are_read(spark, tmp_path, suffix):
    path = tmp_path / f"log{suffix}"
    content = b"user\titem\tat\trating\nu1\ti,1\t10\t5\n\t\t\t\nu2\ti2\t20\t1\n"
    packing = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}.get(path.suffix)
    with pa.output_stream(path, compression=packing) as stream:
        stream.write(content)

    accepted, rejected = ingest_log(spark, path)

    assert accepted == [("u1", "i,1", 10, 1), ("u2", "i2", 20, 0)]
    assert rejected == [(path.name, 3, "user_id is null")]


def test_lines_keep_their_numbers_where_files_are_split(spark, tmp_path):
    lines = [f"u{n},i{n},{n},{'x,y' if n % 1000 == 7 else 5}" for n in range(2, 30_002)]
    plain = write(tmp_path / "log" / "plain.csv", "\n".join(["user,item,at,rating", *lines]))
    write(tmp_path / "log" / "quoted.csv", plain.read_text().replace("i50,", '"i\n50",'))
    before = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.maxPartitionBytes", "50000")
    try:
        accepted, rejected = ingest_log(spark, tmp_path / "log", format="csv")
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)

    bad = [n for n in range(2, 30_002) if n % 1000 == 7]
    reason = "the row has more fields than the header"
    expected = [("plain.csv", n, reason) for n in bad] + [("quoted.csv", n + (n > 50), reason) for n in bad]
    duplicates = [r for r in rejected if r[2].startswith("interaction is a duplicate")]
    assert sorted(set(rejected) - set(duplicates)) == sorted(expected)
    assert len(accepted) == 30_000 - len(bad) + 1  # the same rows in both files, and i50 with a line break
    assert len(accepted) + len(rejected) == 60_000


def test_a_file_of_quotes_that_are_never_closed_is_read_in_bounded_time_and_memory(spark, tmp_path):
    lines = [f'u{n},i{n},{n},"5' for n in range(2, 20_002)]
    file = write(tmp_path / "log.csv", "\n".join(["user,item,at,rating", *lines]))

    accepted, rejected = ingest_log(spark, file)

    assert accepted == []
    assert rejected == sorted((("log.csv", n, "a quoted field is not closed") for n in range(2, 20_002)), key=str)
