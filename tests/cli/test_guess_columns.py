"""``qarm init --from`` says what it guessed, asks what it does not know, and writes settings that load."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from qarm_features.cli import main
from qarm_features.cli.guess_columns import Guessing
from qarm_features.importers.guessing.meeting import meet
from qarm_features.importers.guessing.sample import read_sample
from qarm_features.importers.plan import ImportFailed
from qarm_features.settings.load import load_settings
from tests.importers.imported import write_files

CATALOG = "sku;name;category;preis\n" + "".join(f"A-{n:02};Shirt {n};Tops;9,95\n" for n in range(40))
LOG = "customer,sku,clicked_at,clicked\n" + "".join(
    f"u{n % 7},A-{n % 40:02},{1_700_000_000 + n},{n % 2}\n" for n in range(90)
)


@pytest.fixture
def qarm(monkeypatch, tmp_path):
    monkeypatch.setattr(main, "console", Console(width=300, highlight=False))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        done = CliRunner().invoke(main.app, ["init", *map(str, arguments)])
        return f"{done.output}{done.exception or ''}"

    return run


def answered(files, *, given=(), yes=False, answers=()):
    """Returns the values that are guessed for files, with answers to the questions, and the questions."""
    left, asked = list(answers), []

    def ask(question, _):
        asked.append(question)
        return left.pop(0)

    guessing = Guessing(files, list(given), yes=yes, ask=ask if answers else None, console=Console(quiet=True))
    settings = guessing.settings(files[0].parent)
    assert not left
    return {name: setting.value for name, setting in settings.items()}, asked


def test_the_guesses_are_shown_with_examples_and_stand_with_their_reasons_in_settings_that_load(qarm, tmp_path):
    write_files(tmp_path, {"my/shop.csv": CATALOG, "log.csv.gz": LOG})

    output = qarm("my", "--from", "log.csv.gz", "--from", "my/shop.csv")

    settings = load_settings(tmp_path / "my" / "qarm.yaml")
    assert settings.items.model_dump(exclude_defaults=True) == {
        "path": "shop.csv",
        "delimiter": ";",
        "item_id": "sku",
        "item_id_type": "string",
        "title": "name",
        "text": ["name", "category"],
    }
    assert settings.interactions.model_dump(exclude_defaults=True) == {
        "path": str(tmp_path / "log.csv.gz"),
        "user_id": "customer",
        "user_id_type": "string",
        "item_id": "sku",
        "event_timestamp": "clicked_at",
        "timestamp_unit": "seconds",
        "label": "clicked",
    }
    assert settings.codebooks.codebook_size == 2
    assert "A-00 / A-01 / A-02" in output
    assert "90 of 90 rows of the log that were read have their item in the catalog (100%)" in output
    assert "a price, which qarm does not use" in output
    text = (tmp_path / "my" / "qarm.yaml").read_text()
    assert (
        "  item_id: sku  # Column of the item ID. Guessed: the name sku, almost no value comes twice, 100% of" in text
    )
    assert "  # image: null  # Column of images" in text
    assert "Check the guesses in my/qarm.yaml" in output


def test_no_sign_of_a_file_reaches_the_screen_or_the_settings_that_could_change_them(qarm, tmp_path):
    catalog = CATALOG.replace("Shirt 0", "\x1b[2JShirt").replace("category", "cate\x1bgory")
    write_files(tmp_path, {"shop.csv": catalog, "log.csv": LOG})

    output = qarm("my", "--from", "shop.csv", "--from", "log.csv")

    text = (tmp_path / "my" / "qarm.yaml").read_text()
    assert "\x1b" not in output + text
    assert "[2JShirt" in output
    assert "u0" not in text  # who the users are is nobody's business
    load_settings(tmp_path / "my" / "qarm.yaml")


def test_without_a_terminal_all_that_is_not_sure_is_an_error_with_the_flags_that_answer_it(qarm, tmp_path):
    log = LOG.replace("customer", "session").replace("clicked\n", "seen\n", 1)
    write_files(tmp_path, {"shop.csv": CATALOG, "log.csv": log})

    output = qarm("my", "--from", "shop.csv", "--from", "log.csv")

    assert "Answer by flags, or take the guesses with --yes" in output
    assert "--column interactions.user_id=session" in output
    assert "--column interactions.label=seen" in output
    assert not (tmp_path / "my").exists()

    qarm("my", "--from", "shop.csv", "--from", "log.csv", "--column", "user_id=session", "--column", "label=none")
    settings = load_settings(tmp_path / "my" / "qarm.yaml")
    assert (settings.interactions.user_id, settings.interactions.label) == ("session", None)
    assert "You named it." in (tmp_path / "my" / "qarm.yaml").read_text()


def test_a_title_that_is_named_is_encoded_too_and_flags_of_names_with_blanks_can_be_copied(qarm, tmp_path):
    catalog = "article no,the model,blurb\n" + "".join(
        f"{number // 3:05d},Alba{number},fry and cook on the stove {number}\n" for number in range(60)
    )
    write_files(tmp_path, {"goods.csv": catalog})

    refused = qarm("my", "--from", "goods.csv", "--column", "title=the model")
    qarm("my", "--from", "goods.csv", "--column", "title=the model", "--column", "item_id=article no")

    assert "--column 'items.item_id=the model'" in refused
    assert load_settings(tmp_path / "my" / "qarm.yaml").items.text == ["the model", "blurb"]


def test_on_a_terminal_questions_are_asked_until_an_answer_fits(tmp_path):
    log = LOG.replace("customer", "session").replace("clicked\n", "seen\n", 1)
    write_files(tmp_path, {"shop.csv": CATALOG, "log.csv": log})

    values, asked = answered([tmp_path / "shop.csv", tmp_path / "log.csv"], answers=("visitor", "session", "none"))

    assert values["interactions.user_id"] == "session"
    assert values["interactions.label"] is None
    assert len(asked) == 3
    assert "every row counts as positive" in asked[2]


def test_yes_takes_doubtful_guesses_and_marks_them_but_invents_no_column(tmp_path, qarm):
    write_files(
        tmp_path, {"shop.csv": CATALOG, "log.csv": LOG.replace("customer", "session"), "bare.csv": "sku,u\nA-01,7\n"}
    )

    qarm("my", "--yes", "--from", "shop.csv", "--from", "log.csv")
    assert "Guessed with doubt" in (tmp_path / "my" / "qarm.yaml").read_text()

    refused = qarm("other", "--yes", "--from", "shop.csv", "--from", "bare.csv")
    assert "interactions.event_timestamp is not clear: no column looks like one" in refused


FORMS = {
    "shop.tsv": ("sku\tname\nA\tOne, two\nB\tThree\n", {}),
    "shop.dat": ("sku::name\nA::One, two\nB::Three\n", {"delimiter": "::"}),
    "shop.txt": ("sku|name\nA|One, two\nB|Three\n", {"delimiter": "|", "format": "csv"}),
    "quoted.csv": ('sku,name\r\nA,"One, two"\r\nB,Three\r\n', {}),
    "latin.csv": ("sku;name\nA;One, two\nB;Caf\xe9\n".encode("latin-1"), {"encoding": "latin-1", "delimiter": ";"}),
    "windows.csv": ("sku;name\nA;One, two\nB;5 €\n".encode("cp1252"), {"encoding": "cp1252", "delimiter": ";"}),
    "utf16.csv": ("sku;name\nA;One, two\nB;Three\n".encode("utf-16"), {"encoding": "utf-16", "delimiter": ";"}),
    "mark.csv": ("\ufeffsku;name\nA;One, two\nB;Three\n", {"delimiter": ";"}),
    "shop.jsonl.gz": ('{"sku": "A", "name": "One, two"}\nbroken\n{"sku": "B", "name": "a\u2028b"}\n', {}),
    "broken.csv": ('sku,name\nA,"One, two"\nB,"never closed\n', {}),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_form_of_a_file_is_found(tmp_path, name):
    content, form = FORMS[name]
    write_files(tmp_path, {name: content})

    sample = read_sample(tmp_path / name)

    assert list(sample.columns) == ["sku", "name"]
    assert (sample.columns["sku"], sample.columns["name"][0]) == (["A", "B"], "One, two")
    assert {key: setting.value for key, setting in sample.settings.items()} == form


def test_a_file_without_a_header_gives_columns_with_numbers(tmp_path):
    write_files(tmp_path, {"shop.csv": "1,One\n2,Two\n"})

    sample = read_sample(tmp_path / "shop.csv")

    assert sample.columns == {"1": ["1", "2"], "2": ["One", "Two"]}
    assert sample.settings["header"].value is False


def test_parquet_gives_types_and_a_column_of_text_stays_a_string_id(tmp_path):
    items = pd.DataFrame({"item_id": [str(n) for n in range(50)], "title": [f"Shirt {n}" for n in range(50)]})
    log = pd.DataFrame(
        {"user_id": [n % 9 for n in range(99)], "item_id": [str(n % 50) for n in range(99)]}
        | {"timestamp": pd.date_range("2024-01-01", periods=99)}
    )
    items.to_parquet(tmp_path / "items.parquet")
    log.to_parquet(tmp_path / "log.parquet")

    values, _ = answered([tmp_path / "items.parquet", tmp_path / "log.parquet"])

    assert values["items.item_id_type"] == "string"
    assert values["interactions.user_id_type"] == "integer"
    assert values["interactions.timestamp_unit"] == "timestamp"


def test_only_the_head_of_a_large_file_is_read_and_its_rows_are_estimated(tmp_path):
    write_files(tmp_path, {"shop.csv": "sku,name\n" + "".join(f"{n:05},Shirt {n:05}\n" for n in range(10_000))})

    sample = read_sample(tmp_path / "shop.csv", limit=18_000)

    assert (sample.rows, sample.whole) == (999, False)
    assert 9_900 < sample.total < 10_100


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_catalog_with_more_rows_than_the_sample_is_counted_and_met_as_a_whole(tmp_path, form):
    numbers = range(25_000)
    catalog = pd.DataFrame({"sku": [f"A{n:05}" for n in numbers], "name": [f"Shirt {n}" for n in numbers]})
    log = pd.DataFrame({"user_id": [f"u{n % 9}" for n in numbers], "sku": [f"A{n * 7 % 25_000:05}" for n in numbers]})
    log["timestamp"] = "2024-01-05"
    for name, table in (("catalog", catalog), ("log", log)):
        if form == "csv":
            table.to_csv(tmp_path / f"{name}.csv", index=False, sep=";")
        elif form == "jsonl":
            table.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
        else:
            table.to_parquet(tmp_path / f"{name}.parquet")
    samples = [read_sample(tmp_path / f"{name}.{form}") for name in ("catalog", "log")]

    meeting = meet(samples[0], "sku", samples[1], "sku", is_integer=False)

    assert (samples[0].whole, samples[0].total) == (False, 25_000)
    assert meeting.whole
    assert meeting.found == meeting.rows > 4_000


def test_files_whose_ids_do_not_meet_are_refused_with_ids_of_both(tmp_path):
    write_files(tmp_path, {"shop.csv": CATALOG.replace("A-", "A_"), "log.csv": LOG})
    files = [tmp_path / "shop.csv", tmp_path / "log.csv"]

    with pytest.raises(
        ImportFailed, match=r"0 of 90 rows .* \(0%\). The log has A-00, A-01, A-02, and the catalog A_00, A_01"
    ):
        answered(files)
    assert answered(files, answers=("yes",))[0]["items.item_id"] == "sku"
    assert answered(files, yes=True)[0]["items.item_id"] == "sku"


def test_leading_zeros_make_a_string_id_and_labels_without_a_usual_limit_are_asked_for(tmp_path):
    catalog = "id,title\n" + "".join(f"{n:04},Shirt {n}\n" for n in range(40))
    log = "user_id,item_id,timestamp,score\n" + "".join(
        f"{n % 7},{n % 40:04},2024-01-0{n % 9 + 1},{n}\n" for n in range(90)
    )
    write_files(tmp_path, {"shop.csv": catalog, "log.csv": log})
    files = [tmp_path / "shop.csv", tmp_path / "log.csv"]

    with pytest.raises(
        ImportFailed, match="the labels go from 0 to 89|The labels go from 0 to 89. .*--column positive_from=NUMBER"
    ):
        answered(files)
    values, _ = answered(files, given=("positive_from=50",))
    assert (values["items.item_id_type"], values["interactions.positive_from"]) == ("string", 50)


def test_a_catalog_alone_leaves_the_log_open(qarm, tmp_path):
    write_files(tmp_path, {"shop.csv": CATALOG})

    output = qarm("my", "--from", "shop.csv")

    assert "The click log is not known" in output
    assert load_settings(tmp_path / "my" / "qarm.yaml").items.item_id == "sku"


SAME = {"a.csv": "x,y\n1,2\n3,4\n", "b.csv": "x,y\n1,2\n3,4\n"}


@pytest.mark.parametrize(
    ("files", "flags", "message"),
    [
        ({"log.csv": LOG}, (), "log.csv looks like a click log, with users and times"),
        (SAME, (), "Which file is the catalog cannot be told: a.csv or b.csv. Say it with --column catalog=a.csv"),
        (SAME, ("--column", "catalog=c.csv"), "--column catalog is c.csv, must be one of the files: a.csv, b.csv"),
        ({"shop.csv": CATALOG}, ("--column", "colour=x"), "--column is colour=x, must name one of image, item_id"),
        (
            {"shop.csv": CATALOG},
            ("--column", "item_id=id"),
            "--column items.item_id is id, must be a column of its file: sku, name",
        ),
        (
            {"shop.csv": CATALOG, "log.csv": LOG},
            ("--column", "event_timestamp=clicked"),
            "event_timestamp is clicked, whose values, such as 0, 1, are no times",
        ),
        ({"shop.csv": CATALOG, "log.csv": LOG}, ("--column", "label=customer"), "such as u0, u1, u2, are no numbers"),
        (
            {"shop.csv": CATALOG, "log.csv": LOG},
            ("--column", "positive_from=high"),
            "positive_from is high, must be a number",
        ),
        ({"empty.csv": ""}, (), "empty.csv is empty"),
        ({"head.csv": "sku,name\n"}, (), "head.csv has no rows"),
        ({"one.csv": "sku\n1\n"}, (), "one.csv has one column only"),
        ({"list.json": "[\n1\n]\n"}, (), "list.json is no JSON Lines"),
        ({"shop.xlsx": "PK"}, (), "shop.xlsx has a suffix that is not known"),
        ({"shop.csv": b"a\0b,c\n"}, (), "shop.csv holds zero bytes"),
        ({"shop.parquet": "no"}, (), "shop.parquet is no Parquet file"),
        ({"shop.csv.gz/x": ""}, (), "x is empty"),
        ({"a.csv": CATALOG, "b.csv": LOG, "c.csv": LOG}, (), "--from is given 3 times"),
        ({}, ("--from", "none.csv"), "--from is none.csv, must be an existing file or folder"),
        ({}, ("--yes",), "--column and --yes are for guesses, and --from is not given"),
        ({"my/qarm.yaml": "", "my/a.csv": CATALOG}, ("--from", "my/a.csv"), "qarm.yaml exists, and is not changed"),
        ({"d/_delta_log/0.json": "{}"}, ("--from", "d"), "--from is d, a Delta table"),
    ],
)
def test_what_cannot_be_guessed_is_said(qarm, tmp_path, files, flags, message):
    write_files(tmp_path, {name: text for name, text in files.items() if not name.endswith(".gz/x")})
    for name in files:
        if name.endswith(".gz/x"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text(files[name])
    given = [] if "--from" in flags or "--yes" in flags else [part for name in files for part in ("--from", name)]

    assert message in qarm("my", *given, *flags)
