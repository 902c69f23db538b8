"""A log as twenty strangers would bring it: twenty files of twenty lines, and each of the 400 lines is right or rejected.

What is right is written beside each line, by hand, and knows nothing of the reader.
"""

from __future__ import annotations

import json

import pyarrow as pa

from qarm_features.cli.new_project import write_project
from qarm_features.jobs.build_user_behavior import build_user_behavior
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.storage.tables import INTERACTIONS, ITEMS, REJECTED_ROWS, USER_BEHAVIOR
from tests.catalog.sources import write
from tests.toy_catalog import open_project

HEADER = ["user", "item", "at", "liked", "note"]
START = 1_700_000_000
SETTINGS = """\
max_rejected_share: {items: 0.5, interactions: 0.6}
items: {path: catalog, format: jsonl, item_id: sku, item_id_type: string, title: name, text: [name, tags]}
interactions:
  {path: log, format: csv, user_id: user, user_id_type: string, item_id: item, event_timestamp: at, timestamp_unit: seconds,
   label: liked}
"""


class Log:
    """Files of the log, the rows that must be accepted, and the lines that must be rejected with a word of the reason."""

    def __init__(self, folder):
        self.folder, self.lines, self.accepted, self.rejected, self.moment = folder, 0, set(), {}, START

    def rows(self, n=20):
        """Return n rows of a user each, no two alike."""
        self.moment += 1000
        return [[f"u{i % 7}", f"i{i % 30}", self.moment + i, i % 2, "seen"] for i in range(n)]

    def keep(self, user, item, at, liked, _):
        self.accepted.add((user.strip(), item.strip(), int(at), int(liked)))

    def file(self, name, rows, *, header=HEADER, bad=None, form=",".join, end="\n", pack=None):
        """Write a file of 20 rows. ``bad`` gives the changed line and the reason by number of the row."""
        bad = bad or {}
        lines, place = [form(header)], 2
        for number, row in enumerate(rows):
            by_name = dict(zip(HEADER, row)) | {"\ufeffuser": row[0]}
            line = form(str(by_name.get(column, "x")) for column in header)
            if number in bad:
                line, reason = bad[number](line) if callable(bad[number]) else bad[number]
                for part in range(line.count("\n") + 1):
                    self.rejected[name.rsplit("/", 1)[-1], place + part] = reason
            else:
                self.keep(*row)
            lines.append(line)
            place += line.count("\n") + 1
        content = "".join(line + end for line in lines).encode("utf-8", "surrogateescape")
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.output_stream(path, compression=pack) as stream:
            stream.write(content)
        self.lines += len(rows)


def quote_all(fields):
    return ",".join(f'"{field}"' for field in fields)


def write_log(log):
    log.file("plain.csv", log.rows())
    log.file("other_order.csv", log.rows(), header=["item", "user", "note", "liked", "at"])
    log.file("more_columns.csv", log.rows(), header=["session", *HEADER, "device"])
    log.file("quoted.csv", log.rows(), form=quote_all)
    log.file("windows.csv", log.rows(), end="\r\n")
    log.file("old_mac.csv", log.rows(), end="\r")
    log.file("excel.csv", log.rows(), header=["\ufeffuser", *HEADER[1:]])
    log.file("packed.csv.gz", log.rows(), pack="gzip")
    log.file("packed.csv.zst", log.rows(), pack="zstd")
    log.file("deep/er/movies[1].csv", log.rows())
    open_last = lambda line: (line.replace(",seen", ',"seen'), "not closed")  # noqa: E731
    log.file("open_last.csv", log.rows(), bad={3: open_last, 19: open_last})
    open_middle = lambda line: (line.replace(",i", ',"i', 1), "not closed")  # noqa: E731
    log.file("open_middle.csv", log.rows(), bad={0: open_middle, 7: open_middle, 8: open_middle})
    log.file(
        "fields.csv",
        log.rows(),
        bad={4: lambda x: (x + ",more", "more fields"), 5: lambda x: (x.rsplit(",", 1)[0], "fewer fields")},
    )
    log.file("bytes.csv", log.rows(), bad={2: lambda line: ("\udce9" + line, "not valid in the encoding")})
    times = ["10:15:00", "yesterday", "", "1e3x", "1700000000000", "-5"]
    log.file(
        "times.csv",
        log.rows(),
        bad={n: (f"u1,i1,{time},1,seen", "event_timestamp is") for n, time in enumerate(times)},
    )
    labels = ["Infinity", "5d", "0x1p3", "1_000", "good", "", "NaN"]
    log.file(
        "labels.csv", log.rows(), bad={n: (f"u1,i1,{START},{label},seen", "label is") for n, label in enumerate(labels)}
    )
    users = ["", "  ", '""', "null", "NaN"]
    log.file(
        "users.csv",
        log.rows(),
        bad={n: (f"{user},i1,{START},1,seen", "user_id is null") for n, user in enumerate(users)},
    )
    rows = log.rows()
    again = {18: (",".join(map(str, rows[0])), "is a duplicate")}
    # Of a view and a click at one moment the click is kept.
    again[19] = (",".join(map(str, [*rows[1][:3], 0, "viewed"])), "is a duplicate with other content")
    log.file("twice.csv", rows, bad=again)
    spaces = [[f" {row[0]} ", f"{row[1]} ", *row[2:]] for row in log.rows()]
    log.file("spaces.csv", spaces)
    log.file(
        "lines.csv",
        [[*row[:4], '"two\nlines, ""quoted"""' if n % 5 == 0 else "one"] for n, row in enumerate(log.rows())],
    )


def write_catalog(folder):
    items = [{"sku": f"i{n}", "name": f"Item {n}", "tags": ["red", None, "tall"][: n % 4]} for n in range(30)]
    lines = [json.dumps(item) for item in items]
    lines[29] += (
        "\n" + '{"sku": "i99", "name": "One"} {"sku": "i98", "name": "Two"}' + "\n" + '{"sku": 97, "name": "Seven"'
    )
    write(folder / "items.jsonl", "\n".join(lines))
    return {
        item["sku"]: ". ".join(x for x in (item["name"], ", ".join(filter(None, item["tags"]))) if x) for item in items
    }


def test_each_of_400_lines_is_right_or_rejected_with_its_reason(spark, tmp_path):
    write_project(tmp_path)
    (tmp_path / "qarm.yaml").write_text(SETTINGS)
    log = Log(tmp_path / "log")
    write_log(log)
    texts = write_catalog(tmp_path / "catalog")
    assert log.lines == 400 and len(list(log.folder.rglob("*.*"))) == 20
    context = open_project(tmp_path, spark)

    counts = ingest_catalog(context)
    build_user_behavior(context)

    rejected = context.warehouse.read(REJECTED_ROWS).collect()
    reasons = {(r["file"].rsplit("/", 1)[-1], r["line"]): r["reason"] for r in rejected if r["table"] == "interactions"}
    assert reasons.keys() == log.rejected.keys()
    assert {place for place, reason in reasons.items() if log.rejected[place] not in reason} == set()
    rows = context.warehouse.read(INTERACTIONS).collect()
    found = {(r["user_id"], r["item_id"], int(r["event_timestamp"].timestamp()), r["label"]) for r in rows}
    assert found == log.accepted
    assert len(rows) + len(log.rejected) == 400
    items = {row["item_id"]: row["text"] for row in context.warehouse.read(ITEMS).collect()}
    assert items == texts
    in_catalog = sorted((r["line"], r["reason"]) for r in rejected if r["table"] == "items")
    assert in_catalog == [(31, "text follows the JSON object"), (32, "the line is not a JSON object")]
    assert counts[:3] == (432, len(rows) + 30, len(log.rejected) + 2)
    last = {row["user_id"]: row["behavior_item_ids"] for row in latest_sequences(context)}
    assert last == expected_sequences(log.accepted, context.settings.behavior.max_length)


def latest_sequences(context):
    behavior = context.warehouse.read(USER_BEHAVIOR).orderBy("event_timestamp").collect()
    return list({row["user_id"]: row for row in behavior}.values())


def expected_sequences(accepted, length):
    by_user = {}
    for user, item, at, liked in sorted(accepted, key=lambda row: row[2]):
        if liked:
            by_user.setdefault(user, []).append((at, item))
    moments = {user: {at for at, _ in rows} for user, rows in by_user.items()}
    assert all(len(moments[user]) == len(rows) for user, rows in by_user.items())
    return {user: [item for _, item in rows][-length:] for user, rows in by_user.items()}
