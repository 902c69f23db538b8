"""Random dirt in every format: what is accepted, rejected and counted is what the writer of the dirt knows to be right.

The oracle is the writer: it knows of each line whether it is broken and how, and never asks the reader.
"""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.catalog.sources import ingest_log, write

ROWS = 2500  # per source; each run has four sources
NOT_UTF8 = "the line is not valid in the encoding utf-8"
DIRT = {
    "csv": ["blank", "fewer", "more", "bytes", "open", "open last", "after quote", "quoted", "several lines"],
    "jsonl": ["blank", "two objects", "rest", "cut", "bytes", "key twice", "array", "list"],
    "table": ["bytes", "blank user", "null time"],
}
DIRT = {name: [*kinds, "null user", "bad label", "bad time"] for name, kinds in DIRT.items()}
TEXT = "abz é,;漢'|#%\\"


def clean_row(rng, number):
    # Where a field begins with a comma and a quote before it was not closed, nobody can tell what was meant.
    text = "".join(rng.choices(TEXT, k=rng.randint(0, 8))).lstrip(",")
    return {
        "user": f"u{rng.randint(0, 50)}",
        "item": f"i {number}",
        "at": number + 1,
        "rating": rng.randint(1, 5),
        "note": text,
    }


def accepted_row(row):
    return (row["user"], row["item"], row["at"], int(row["rating"] >= 4))


def common_dirt(row, kind):
    """Change a row so that every format has the same reason to reject it. Return the reason, or None."""
    value = {"null user": ("user", None), "bad label": ("rating", "good"), "bad time": ("at", "soon")}.get(kind)
    if value is None:
        return None
    row[value[0]] = value[1]
    return {"user": "user_id is null", "rating": "label is not a number", "at": "event_timestamp is not a number"}[
        value[0]
    ]


def csv_field(text, rng, *, always=False):
    text = "" if text is None else str(text)
    quoted = always or rng.random() < 0.1 or any(c in text for c in ',"\n')
    return '"' + text.replace('"', '""') + '"' if quoted else text


def write_csv(path, rng, kinds):
    order = rng.sample(["user", "item", "at", "rating", "note"], 5)
    lines, accepted, rejected = [",".join(order).encode()], [], []
    for number in range(ROWS):
        row, kind, line = clean_row(rng, number), rng.choice(kinds) if rng.random() < 0.2 else "", len(lines) + 1
        reason = common_dirt(row, kind)
        if kind == "blank":
            lines += [rng.choice([b"", b"  "])]
            continue
        if kind == "several lines":
            row["note"] = rng.choice(["two\nlines", "three\n\nlines", 'and,\n"quoted",', "x\n"])
        fields = [csv_field(row[name], rng, always=kind == "quoted") for name in order]
        if kind in ("open", "open last"):
            place = 4 if kind == "open last" else rng.randrange(4)
            fields[place] = '"' + str(row[order[place]] if order[place] != "note" else "never closed").replace('"', "")
            fields = [field if "\n" not in field else "" for field in fields]
            fields = [
                field if n == place else field.replace('"', "").replace(",", "") for n, field in enumerate(fields)
            ]
            reason = "a quoted field is not closed"
        elif kind == "after quote":
            fields[rng.randrange(5)] = '"quoted" and more'
            reason = "text follows a closing quote"
        elif kind == "fewer":
            fields, reason = fields[:-1], "the row has fewer fields than the header"
        elif kind == "more":
            fields, reason = [*fields, "more"], "the row has more fields than the header"
        text = ",".join(fields).encode()
        if kind == "bytes":
            text, reason = text.replace(b"u", b"u\xff", 1), NOT_UTF8
        parts = text.split(b"\n")
        lines += parts
        if reason is None:
            accepted.append(accepted_row(row))
        else:
            rejected.append((path.name, line, reason))
    write(
        path, rng.choice([b"", b"\xef\xbb\xbf"]) + rng.choice([b"\n", b"\r\n"]).join(lines) + rng.choice([b"", b"\n"])
    )
    return accepted, rejected


def write_json_lines(path, rng, kinds):
    lines, accepted, rejected = [], [], []
    for number in range(ROWS):
        # A file whose first line is an array is refused as a whole.
        row, kind = clean_row(rng, number), rng.choice(kinds) if number and rng.random() < 0.2 else ""
        reason = common_dirt(row, kind)
        if kind == "list":
            row["user"] = [row["user"]]  # a list of one is its element, as in Parquet
        entries = dict(rng.sample(list(row.items()), 5))
        text = json.dumps(entries, ensure_ascii=rng.random() < 0.5)
        if kind == "blank":
            lines += [rng.choice([b"", b" \t "])]
            continue
        if kind == "two objects":
            text, reason = text + rng.choice(["", " ", ","]) + text, "text follows the JSON object"
        elif kind == "rest":
            text, reason = text + rng.choice([",", "x", "]"]), "text follows the JSON object"
        elif kind == "cut":
            text, reason = text[: rng.randrange(1, len(text))], "the line is not a JSON object"
        elif kind == "key twice":
            text, reason = '{"user": "x", ' + text[1:], "the JSON object has a key twice"
        elif kind == "array":
            text, reason = f" [{text}]", "the line is not a JSON object"
        encoded = text.encode()
        if kind == "bytes":
            encoded, reason = encoded.replace(b"i ", b"i\xe9 ", 1), NOT_UTF8
        lines.append(encoded)
        if reason is None:
            accepted.append(accepted_row({**row, "user": entries["user"][0] if kind == "list" else row["user"]}))
        else:
            rejected.append((path.name, len(lines), reason))
    write(path, b"\n".join(lines))
    return accepted, rejected


def table_of(rng, kinds, name):
    rows, accepted, rejected = [], [], []
    for number in range(ROWS):
        row, kind = clean_row(rng, number), rng.choice(kinds) if rng.random() < 0.2 else ""
        reason = common_dirt(row, kind)
        row["at"], row["rating"] = str(row["at"]), str(row["rating"])
        if kind == "blank user":
            row["user"], reason = "  ", "user_id is null"
        elif kind == "null time":
            row["at"], reason = None, "event_timestamp is null"
        if reason is None and kind != "bytes":
            accepted.append(accepted_row({**row, "at": int(row["at"]), "rating": int(row["rating"])}))
        encoded = {key: None if value is None else value.encode() for key, value in row.items()}
        if kind == "bytes":
            encoded["item"], reason = encoded["item"] + b"\xe9", "the text of item is not valid UTF-8"
        rows.append(encoded)
        if reason is not None:
            rejected.append((name, None, reason))
    columns = {key: pa.array([row[key] for row in rows], pa.binary()).view(pa.string()) for key in rows[0]}
    return pa.table(columns), accepted, rejected


@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(DIRT["csv"]), min_size=1, unique=True),
    st.lists(st.sampled_from(DIRT["jsonl"]), min_size=1, unique=True),
    st.lists(st.sampled_from(DIRT["table"]), min_size=1, unique=True),
)
@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate],  # a smaller example would take as long, and the seed and the kinds of dirt say enough
)
def test_every_row_of_every_format_is_accepted_or_rejected_as_its_writer_knows(
    spark, tmp_path_factory, seed, csv_kinds, json_kinds, table_kinds
):
    rng, folder = random.Random(seed), tmp_path_factory.mktemp("dirt")
    expected = {
        "log.csv": write_csv(folder / "log.csv", rng, csv_kinds),
        "log.jsonl": write_json_lines(folder / "log.jsonl", rng, json_kinds),
    }
    table, *expected["log.parquet"] = table_of(rng, table_kinds, "log.parquet")
    pq.write_table(table, folder / "log.parquet", store_schema=False)
    table, *rows = table_of(rng, table_kinds, None)
    pq.write_table(table, folder / "source.parquet", store_schema=False)
    spark.read.parquet(str(folder / "source.parquet")).write.format("delta").save(str(folder / "delta"))

    for name, (accepted, rejected) in expected.items():
        assert ingest_log(spark, folder / name) == (sorted(accepted), sorted(rejected, key=str)), name
    accepted, rejected = ingest_log(spark, folder / "delta", format="delta")
    assert accepted == sorted(rows[0])
    assert sorted(reason for _, _, reason in rejected) == sorted(reason for _, _, reason in rows[1])
