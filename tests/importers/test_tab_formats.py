"""MIND, logs in the manner of Criteo, and atomic files of RecBole."""

import pytest

from qarm_features.importers.distinct import Distinct
from qarm_features.importers.formats import FORMATS
from qarm_features.importers.plan import ImportFailed, Options
from qarm_features.importers.write_tables import first_rows
from tests.importers.imported import imported, write_files

NEWS = (
    'N1\tsports\tnfl\tA "quoted title\tAbstract\thttps://a\t[]\t[]\n'
    "N2\tnews\tworld\tTitle, two\t\thttps://b\t[]\t[]\n"
    "N3\tnews\tworld\n"
)
BEHAVIORS = (
    "1\tU1\t11/11/2019 9:05:58 AM\tN2 N3\tN1-1 N2-0\n"
    "2\tU2\t11/12/2019 12:30:00 PM\t\tN2-1 N1\n"
    "3\tU1\t2019-11-13\tN2 N3\tN1-0\n"
    "4\tU3\t11/13/2019 1:00:00 PM\tN1\t\n"
)
MIND = {"train/news.tsv": NEWS, "train/behaviors.tsv": BEHAVIORS}


def clicks(log):
    return [(row["impression_id"], row["user_id"], row["news_id"], row["time"], row["clicked"]) for row in log]


def test_each_article_of_an_impression_becomes_a_labeled_row(tmp_path):
    items, log, left_of_items, left_of_log, plan = imported(tmp_path, "mind", MIND)

    assert [row["title"] for row in items] == ['A "quoted title', "Title, two"]
    assert left_of_items == {"3 fields instead of 8": 1}
    assert clicks(log) == [
        ("1", "U1", "N1", "2019-11-11 09:05:58", "1"),
        ("1", "U1", "N2", "2019-11-11 09:05:58", "0"),
        ("2", "U2", "N2", "2019-11-12 12:30:00", "1"),
        ("3", "U1", "N1", "2019-11-13", "0"),  # another form of time stays as it is, for ingest
    ]
    assert left_of_log == {"an article without -0 or -1, as in the test part": 1, "an impression without articles": 1}
    assert "--history" in plan.cautions[0]


def test_the_history_becomes_rows_before_the_first_impression_once_for_each_user(tmp_path):
    _, log, _, left_out, plan = imported(tmp_path, "mind", MIND, history=True)

    assert clicks(log)[:3] == [
        (None, "U1", "N2", "2019-11-11 09:05:56", "1"),
        (None, "U1", "N3", "2019-11-11 09:05:57", "1"),
        (None, "U3", "N1", "2019-11-11 09:05:57", "1"),
    ]
    assert [row["from_history"] for row in log] == ["true"] * 3 + ["false"] * 4
    assert left_out["a history of a user whose history was read before"] == 2
    assert "made-up times" in plan.cautions[0]


def test_a_limit_inside_an_impression_counts_its_other_articles(tmp_path):
    _, log, _, left_out, _ = imported(tmp_path, "mind", MIND, limit=1)

    assert len(log) == 1
    assert left_out == {"a row after the limit": 1}


def test_several_parts_of_mind_allow_for_the_articles_that_they_repeat(tmp_path):
    files = MIND | {"dev/news.tsv": NEWS, "dev/behaviors.tsv": BEHAVIORS}

    items, _, _, _, plan = imported(tmp_path, "mind", files)

    assert [row["news_id"] for row in items] == ["N1", "N2", "N1", "N2"]
    assert plan.settings["max_rejected_share.reasons"].value == {"a duplicate": 1.0}


ATTRIBUTION = (
    "timestamp\tuid\tcampaign\tconversion\tclick\tcat1\n"
    "0\t20073966\t22589259\t0\t1\tx\n2\t2342426\t\t0\t0\tx\n5\t1\n7\t9\t22589259\t0\t0\ty\n"
)


def test_a_log_in_the_manner_of_criteo_has_items_without_text_and_says_so(tmp_path):
    items, log, _, left_out, plan = imported(tmp_path, "criteo", {"log.tsv.gz": ATTRIBUTION})

    assert items == [{"item_id": "22589259", "text": None}]
    assert log == [
        {"user_id": "20073966", "item_id": "22589259", "event_timestamp": "0", "label": "1"},
        {"user_id": "2342426", "item_id": "", "event_timestamp": "2", "label": "0"},
        {"user_id": "9", "item_id": "22589259", "event_timestamp": "7", "label": "0"},
    ]
    assert left_out == {"2 fields instead of 6": 1}
    assert "cannot be had" in plan.cautions[0]


def test_a_dry_run_reads_the_head_of_a_log_alone_although_few_items_are_in_it(tmp_path):
    source = write_files(tmp_path, {"log.tsv": ATTRIBUTION + "9\t9\t1\t0\t0\ty\n" * 50})
    plan = FORMATS["criteo"].plan(source, Options())

    rows, _ = first_rows(plan.items, 4)

    assert rows == [("22589259", None)]


DISPLAY = "\n".join("\t".join([label, *"0" * 13, *(f"{label}{n:07x}" for n in range(26))]) for label in "101")


def test_the_display_challenge_needs_the_word_of_the_user_for_its_columns(tmp_path):
    columns = {"user_id": "C1", "item_id": "C3", "event_timestamp": "line"}

    items, log, _, _, plan = imported(tmp_path, "criteo", {"train.txt": DISPLAY}, columns=columns)

    assert [row["item_id"] for row in items] == ["10000002", "00000002"]
    assert log[1] == {"user_id": "00000000", "item_id": "00000002", "event_timestamp": "2", "label": "0"}
    assert any("is your word" in caution for caution in plan.cautions)


@pytest.mark.parametrize(
    ("files", "columns", "message"),
    [
        (
            {"train.txt": DISPLAY},
            {},
            "no column that is known to be the user_id. .* Name one with --column user_id=NAME",
        ),
        (
            {"train.txt": DISPLAY},
            {"user_id": "C1", "item_id": "C2"},
            "known to be the event_timestamp. .*--column event_timestamp=line keeps the order",
        ),
        (
            {"log.tsv": ATTRIBUTION},
            {"item_id": "ad"},
            "--column item_id is ad, must be a column of log.tsv: timestamp, uid",
        ),
        ({"log.tsv": "1\t2\t3\n"}, {}, "its first line has 3 fields between tabs and no header"),
        ({"a.tsv": "", "b.tsv": ""}, {}, "2 files fit; give the file itself as SOURCE"),
    ],
)
def test_a_log_whose_columns_cannot_be_had_is_refused(tmp_path, files, columns, message):
    with pytest.raises(ImportFailed, match=message):
        imported(tmp_path, "criteo", files, columns=columns)


INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "196\t242\t3\t881250949\n186\t302\t4.5\t891717742.0\nbroken\n"
)
ITEM = "item_id:token\tgenre:token_seq\tmovie_title:token_seq\tyear:float\n242\tComedy Drama\tKolya\t1996\n"


def test_atomic_files_of_recbole_keep_their_columns_without_the_types(tmp_path):
    items, log, _, left_out, plan = imported(tmp_path, "recbole", {"ml/ml.inter": INTER, "ml/ml.item": ITEM})

    assert items == [{"item_id": "242", "genre": "Comedy Drama", "movie_title": "Kolya", "year": "1996"}]
    assert log[1] == {"user_id": "186", "item_id": "302", "rating": "4.5", "timestamp": "891717742.0"}
    assert left_out == {"1 fields instead of 4": 1}
    values = {name: setting.value for name, setting in plan.settings.items()}
    assert values["items.title"] == "movie_title"
    assert values["items.text"] == ["movie_title", "genre"]
    assert values["interactions.timestamp_unit"] == "seconds"
    assert values["interactions.positive_from"] == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ml.inter": INTER}, "Found: ml.inter. Without .item there is nothing to encode"),
        ({"ml.inter": INTER, "ml.item": "item_id:token\tyear:float\n"}, "ml.item has no text"),
        ({"ml.inter": "user,item\n", "ml.item": ITEM}, "The header of ml.inter is 'user,item', must hold NAME:TYPE"),
        ({"ml.inter": "user_id:token\titem_id:token\n1\t2\n", "ml.item": ITEM}, "known to be the event_timestamp"),
        (
            {"ml.inter": "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n", "ml.item": ITEM},
            "begins with 3, which is no time from 1990 to 2100",
        ),
        ({"a.inter": INTER, "b.inter": INTER}, "2 files end in .inter, must be 1"),
    ],
)
def test_atomic_files_without_what_is_needed_are_refused(tmp_path, files, message):
    with pytest.raises(ImportFailed, match=message):
        imported(tmp_path, "recbole", files)


def test_a_column_that_recbole_lacks_is_refused(tmp_path):
    with pytest.raises(ImportFailed, match="--column label is like, must be a column of ml.inter: user_id, item_id"):
        imported(tmp_path, "recbole", {"ml.inter": INTER, "ml.item": ITEM}, columns={"label": "like"})


def test_every_format_says_what_it_is_where_it_comes_from_and_its_license():
    for one in FORMATS.values():
        assert one.title and one.looks_for and one.from_whom and one.license


def test_an_empty_folder_is_no_format(tmp_path):
    for one in FORMATS.values():
        with pytest.raises(ImportFailed, match="does not look like .* Found: nothing"):
            one.plan(tmp_path, Options())


def test_values_beyond_those_in_memory_are_seen_once_too():
    with Distinct(in_memory=2) as seen:
        new = [seen.add(value) for value in "abcacdbd"]

        assert new == [True, True, True, False, False, True, False, False]
        assert list(seen) == ["a", "b", "c", "d"]
