"""Secrets in settings are used as they are and shown nowhere: not in errors, records, dumps and logs."""

import json
import logging
import pickle
import stat
from typing import get_args

import pytest
import yaml
from pyarrow import fs

from qarm_features.embedding.encoder_versions import media_limits
from qarm_features.jobs.failures import report, write_traceback
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.job import Counts
from qarm_features.jobs.skipping import inputs, record_run
from qarm_features.settings import secrets
from qarm_features.settings.load import Settings, SettingsError, load_settings
from qarm_features.settings.secrets import RedactingFilter, credentials_of, redacted
from tests.secret_texts import MARK, awkward_secrets, places_of

MINIMAL = "items: {path: items.parquet}\ninteractions: {path: clicks.csv}\n"
KEY = "spark.hadoop.fs.s3a.secret.key"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """Secrets of one test are unknown to the next."""
    monkeypatch.setattr(secrets, "_known", set())
    monkeypatch.setattr(secrets, "_pattern", None)


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / "qarm.yaml").write_text(text)
        return tmp_path / "qarm.yaml"

    return write


@pytest.mark.parametrize("secret", awkward_secrets())
def test_a_secret_of_any_characters_reaches_the_settings_by_file_and_by_variable(config, secret, monkeypatch):
    monkeypatch.setenv("MY_SECRET", secret)
    by_variable = load_settings(config(MINIMAL + f"spark: {{conf: {{{KEY}: '${{MY_SECRET}}'}}}}\n"))
    monkeypatch.setenv("QARM_SPARK__CONF", json.dumps({KEY: "${MY_SECRET}"}))
    by_json = load_settings(config(MINIMAL))
    monkeypatch.delenv("QARM_SPARK__CONF")
    written = secret.replace("${HOME}", "")  # which names a variable there
    by_file = load_settings(config(MINIMAL + yaml.safe_dump({"spark": {"conf": {KEY: written}}}, allow_unicode=True)))

    found = [settings.spark.conf[KEY].get_secret_value() for settings in (by_variable, by_json, by_file)]

    assert found == [secret, secret, written]


@pytest.mark.parametrize("secret", awkward_secrets())
def test_a_variable_in_a_media_root_is_encoded_as_a_uri_asks(config, secret, monkeypatch):
    monkeypatch.setenv("MY_KEY", "AK/1")
    monkeypatch.setenv("MY_SECRET", secret)
    root = "s3://${MY_KEY}:${MY_SECRET}@bucket/media?region=us-east-1"

    settings = load_settings(config(MINIMAL + f"encoder: {{media_roots: ['{root}', media]}}\n"))

    (uri, local) = media_limits(settings.encoder, settings.path)["image"]["media_roots"]
    (options,) = fs.FileSystem.from_uri(uri)[0].__reduce__()[1]
    assert (options["access_key"], options["secret_key"]) == ("AK/1", secret)
    assert local.endswith("/media")


def with_secrets(config, monkeypatch):
    monkeypatch.setenv("ANY_PASSWORD", f"{MARK}-of-a-variable")
    root = f"s3://{MARK}id:{MARK}pw@bucket/media?region=eu&endpoint_override=x&secret_key={MARK}q"
    return load_settings(
        config(
            MINIMAL + f"spark: {{conf: {{{KEY}: {MARK}'s key, other: {MARK}}}}}\nencoder: {{media_roots: ['{root}']}}\n"
        )
    )


def test_settings_show_no_secret_however_they_are_written_down(config, monkeypatch):
    settings = with_secrets(config, monkeypatch)

    shown = [repr(settings), str(settings), str(settings.spark), f"{settings.spark.conf}", settings.model_dump_json()]
    shown += [str(settings.model_dump()), str(settings.encoder.media_roots[0]), str(settings.encoder)]

    assert not [text for text in shown if MARK in text]
    assert "s3://***@bucket/media?region=eu&endpoint_override=x&secret_key=***" in settings.model_dump_json()
    assert pickle.loads(pickle.dumps(settings.encoder)) == settings.encoder


def test_a_record_of_a_run_holds_no_secret_and_a_new_password_is_no_change(config, monkeypatch, tmp_path):
    settings = with_secrets(config, monkeypatch)
    seen = inputs(ingest_catalog, settings)
    record_run(ingest_catalog, settings, seen, Counts(1, 1), 1.0)
    rotated = load_settings(config((tmp_path / "qarm.yaml").read_text().replace(f"{MARK}pw", "another")))
    elsewhere = load_settings(config((tmp_path / "qarm.yaml").read_text().replace("bucket/media", "bucket/others")))

    assert places_of(MARK, tmp_path / "artifacts") == []
    assert inputs(ingest_catalog, rotated) == seen != inputs(ingest_catalog, elsewhere)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"spark: {{conf: {{{KEY}: [{MARK}]}}}}", "spark.conf.spark.hadoop.fs.s3a.secret.key is not shown .a list.: "),
        (f"spark: {{conf: {MARK}}}", "spark.conf is not shown .a str.: "),
        (f"spark: {MARK}", "spark is not shown .a str.: "),
        (f"encoder: {{media_roots: 's3://a:{MARK}@b'}}", "encoder.media_roots is not shown .a str.: "),
        (f"encoder: {{media_roots: [[{MARK}]]}}", "encoder.media_roots.0 is not shown .a list.: "),
        (f"encoder: {{media_roots: ['s3://a:{MARK}/{MARK}@b']}}", "shown .a str.: its credentials hold a /, which must be"),
        (f"seed: 'redis://:{MARK}@host'", r"seed is 'redis://\*\*\*@host': "),
        (f"alignment: {{patience: {{x: {MARK}}}}}", "alignment.patience is {x}: "),
        (f"alignment: [{MARK}]", "alignment is a list: "),
        (f"spark: {{config: {MARK}}}", "spark.config in .* is not a setting. Did you mean conf?"),
        (f"warehouse: 's3a://me:{MARK}@bucket'", "^warehouse holds credentials, must be a URI without them. Give them by"),
        (f"item_pairs: {{item_vectors: 's3a://me:{MARK}/{MARK}@bucket'}}", "^item_pairs.item_vectors holds credentials"),
        (f"publishing: {{user_embeddings: {{path: 's3a://b/x.parquet?sig={MARK}'}}}}", "the suffix of "),
        (f"publishing: {{user_embeddings: {{format: delta, path: 's3a://b/x?sig={MARK}'}}}}", "path holds credentials"),
        (f"spark: {{conf: {{a: '${{NO_{MARK[::-1]}}}'}}}}", "the variable NO_YRANAC is not set. Run: export NO_YRANAC="),
        (f"spark:\n  conf: '{MARK}\n  x: y: {MARK}", "qarm.yaml is not valid YAML at line "),
        (f"spark: !{MARK} x", "qarm.yaml is not valid YAML at line 3, column 8"),
        (f"spark: *{MARK}", "qarm.yaml is not valid YAML at line 3, column 8"),
        (f"spark: {{conf: @{MARK}", "qarm.yaml is not valid YAML at line 3, column 15"),
    ],
)  # fmt: skip
def test_an_error_of_the_settings_shows_no_secret(config, text, message, tmp_path):
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(config(MINIMAL + text))

    assert MARK not in str(caught.value)
    assert MARK not in write_traceback(caught.value, tmp_path / "logs").read_text()


def test_a_variable_that_is_no_json_shows_no_secret(config, monkeypatch, tmp_path):
    monkeypatch.setenv("QARM_SPARK__CONF", f"{{{KEY}: {MARK}")

    with pytest.raises(
        SettingsError, match="A variable QARM_. cannot be read: .*spark.* Its value must be JSON"
    ) as caught:
        load_settings(config(MINIMAL))

    assert MARK not in write_traceback(caught.value, tmp_path / "logs").read_text()


def test_places_without_credentials_are_taken(config):
    places = (
        "abfss://box@account.dfs.core.windows.net/x",
        "hdfs://name:8020/day=1/a@b",
        "s3a://bucket/T00:00/x@y",
        "s3a://b/part-?.csv",
    )

    for place in places:
        assert load_settings(config(MINIMAL + f"warehouse: '{place}'\n")).warehouse_path == place
    assert [credentials_of(place) for place in places] == [[]] * 4


@pytest.mark.parametrize("secret", awkward_secrets())
def test_no_text_that_the_filter_saw_holds_a_secret(config, secret, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_SECRET", secret)
    load_settings(config(MINIMAL + f"spark: {{conf: {{{KEY}: '${{MY_SECRET}}'}}}}\n"))
    said = f"psycopg.OperationalError: {secret} | {secret!r} | {json.dumps(secret)} | " + " ".join(secret.split())
    lines = []
    logger, handler = logging.Logger("any"), logging.Handler()
    handler.addFilter(RedactingFilter())
    handler.emit = lambda record: lines.append(handler.format(record))
    logger.addHandler(handler)

    try:
        raise OSError(said)
    except OSError as error:
        logger.error("failed: %s", secret, exc_info=error)
        line = report(error, ["run", "--config", str(tmp_path / "qarm.yaml")])

    assert MARK not in line
    assert MARK not in lines[0]
    assert "Traceback" in lines[0]
    (file,) = (tmp_path / "artifacts" / "logs").iterdir()
    assert MARK not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_no_secret_stays_readable():
    secrets.remember_secrets(["true", "1024", "abc", "  "])
    said = "Set password= in connection_string; tokens_kept=16, token: 7, true, 1024, abc, host:8080/a@b"

    assert redacted(said) == said
    assert redacted("password=x, 'secret': 'y z', access_key=k") == "password=***, 'secret': ***, access_key=***"


def test_variables_with_paths_are_no_secrets(config, monkeypatch, tmp_path):
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv("SHOP_PASSWORD", f"{MARK}-of-a-variable")
    load_settings(config(MINIMAL))

    assert redacted(f"{tmp_path}/x of {MARK}-of-a-variable") == f"{tmp_path}/x of ***"


def places_for_text(model=Settings, prefix=()):
    """Yields the path of each setting that takes any text, or a list or a mapping of it."""
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if hasattr(kind, "model_fields")]
        for kind in kinds:
            yield from places_for_text(kind, (*prefix, name))
        if not kinds and ("str" in str(field.annotation) or "Secret" in str(field.annotation)):
            yield (*prefix, name), str(field.annotation)


PLACES = list(places_for_text())


@pytest.mark.parametrize(("place", "kind"), PLACES, ids=[".".join(place) for place, _ in PLACES])
def test_no_setting_shows_the_credentials_of_a_uri(config, place, kind):
    """A new setting of text either hides them by its type, or refuses them."""
    uri = f"s3a://me:{MARK}@bucket/x.parquet"
    content = [uri] if kind.startswith("list") else {"name": uri} if kind.startswith("dict") else uri
    for name in reversed(place):
        content = {name: content}
    needed = {"items": {"path": "a.csv"}, "interactions": {"path": "a.csv"}, **content}
    if place[-1] == "table":
        needed[place[0]] = {"table": uri}
    if place[0] in ("items", "interactions") and "path" not in needed[place[0]] and place[-1] != "table":
        needed[place[0]]["path"] = "a.csv"

    try:
        settings = load_settings(config(yaml.safe_dump(needed)))
    except SettingsError as error:
        assert MARK not in str(error)
    else:
        assert place in (("spark", "conf"), ("encoder", "media_roots"))
        assert MARK not in repr(settings) + settings.model_dump_json()
