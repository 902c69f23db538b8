"""feature_store.yaml takes any password from the environment, for our readers and for stock Feast, and shows none."""

import json
import os

import pytest
import yaml
from feast.infra.online_stores.redis import RedisOnlineStore

from qarm_features.cli.doctor import checks
from qarm_features.feature_store.store_errors import clear_store_error
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.feature_store.views.repo_config import read_repo_config, secrets_in
from qarm_features.settings import secrets
from qarm_features.settings.secrets import redacted
from tests.secret_texts import MARK, awkward_secrets

QUOTED = """\
project: a
provider: local
registry:
  registry_type: sql
  path: 'sqlite:///r.db'
  cache_ttl_seconds: ${TTL}
online_store: {type: postgres, host: $HOST, port: 5432, database: b, user: me, password: '${PG_PASSWORD}'}
offline_store: {type: file}
entity_key_serialization_version: 3
"""


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(secrets, "_known", set())
    monkeypatch.setattr(secrets, "_pattern", None)


@pytest.mark.parametrize("secret", awkward_secrets())
def test_a_password_of_any_characters_is_read_from_a_variable(secret, tmp_path, monkeypatch):
    for name, value in {"PG_PASSWORD": secret, "TTL": "7", "HOST": "db.internal"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "feature_store.yaml").write_text(QUOTED)

    config = read_repo_config(tmp_path)

    assert config.online_store.password == secret
    assert (config.registry.cache_ttl_seconds, config.online_store.host) == (7, "db.internal")
    assert MARK not in redacted(f"FATAL: {secret!r}, {secret}, {json.dumps(secret)}")


@pytest.mark.parametrize("secret", [*awkward_secrets(), f"{MARK},comma=x", "12345", "true"])
def test_the_template_for_production_takes_any_password_of_redis_in_stock_feast_too(secret, settings, monkeypatch):
    repo = settings.feature_repo_path
    template = (repo / "feature_store.production.yaml").read_text()
    (repo / "feature_store.yaml").write_text(template)
    as_json = json.dumps(secret).replace(",", "\\u002c")  # as docs/operations.md says
    monkeypatch.setenv("QARM_REDIS", f"127.0.0.1:6379,ssl=true,password={as_json}")
    monkeypatch.setenv("QARM_REGISTRY_URL", "sqlite:///registry.db")

    stock = yaml.safe_load(os.path.expandvars(template))["online_store"]["connection_string"]
    ours = read_repo_config(repo).online_store.connection_string

    assert stock == ours
    assert RedisOnlineStore._parse_connection_string(ours)[1]["password"] == secret


@pytest.mark.parametrize("secret", [one for one in awkward_secrets() if "\n" not in one])
def test_the_template_for_production_takes_a_password_as_it_is_in_stock_feast_too(secret, settings, monkeypatch):
    template = (settings.feature_repo_path / "feature_store.production.yaml").read_text()
    lines = [line.removeprefix("# ") for line in template.splitlines()]
    start = lines.index(
        "online_store:                   # PostgreSQL instead; sslmode is require unless it is set here"
    )
    monkeypatch.setenv("QARM_PG_PASSWORD", secret)

    section = yaml.safe_load(os.path.expandvars("\n".join(lines[start : start + 9])))

    assert section["online_store"]["password"] == secret


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"password: 'x{MARK}", "feature_store.yaml is not valid YAML at line "),
        (f"project: {{a: !{MARK} x}}", "feature_store.yaml is not valid YAML at line 10, column 14"),
        (f"project: [{MARK}]", "feature_store.yaml has a setting that Feast refuses: project: "),
        ("coerce_tz_aware: ${NOT_THERE}", "names the variable NOT_THERE, which is not set. Run: export NOT_THERE="),
    ],
)
def test_a_broken_file_is_named_without_a_value(line, message, tmp_path, monkeypatch):
    (tmp_path / "feature_store.yaml").write_text(
        QUOTED.replace("${TTL}", "7").replace("${PG_PASSWORD}", MARK) + line + "\n"
    )

    with pytest.raises(ValueError, match=message) as caught:
        open_feature_store(tmp_path)

    assert MARK not in str(caught.value)


def test_a_file_that_is_yaml_only_with_its_variables_is_read_as_feast_reads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL", "7")
    flow = "registry: {registry_type: sql, path: 'sqlite:///r.db', cache_ttl_seconds: ${TTL}}\n"
    (tmp_path / "feature_store.yaml").write_text("project: a\nprovider: local\noffline_store: {type: file}\n" + flow)

    assert read_repo_config(tmp_path).registry.cache_ttl_seconds == 7


def test_other_settings_of_the_file_stay_readable():
    store = {"type": "redis", "key_ttl_seconds": 604800, "connection_string": "host:6379,db=1234,password=hunter2"}

    found = secrets_in(
        {"entity_key_serialization_version": 3, "online_store": store, "registry": {"path": "sqlite:///r.db"}}
    )

    assert set(found) == {"hunter2"}


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "feature_store.yaml").write_text("- project\n")

    with pytest.raises(ValueError, match="feature_store.yaml is a list, must be a mapping. Run: qarm init DIR"):
        read_repo_config(tmp_path)


@pytest.mark.parametrize(
    "connection", [f"redis://:{MARK}@127.0.0.1:6379/0", f"127.0.0.1:1,password={MARK},{MARK}more:9"]
)
def test_doctor_and_errors_of_the_store_show_no_password_of_redis(connection, settings):
    repo = settings.feature_repo_path
    text = (repo / "feature_store.yaml").read_text()
    text = text.replace(
        "type: sqlite\n  path: online_store.db ",
        f"type: redis\n  connection_string: '{connection}'\n  skip_dedup: true ",
    )
    (repo / "feature_store.yaml").write_text(text)
    from redis.exceptions import ConnectionError as Refused

    told = [check.run() for check in checks(repo.parent / "qarm.yaml") if check.name in ("Redis", "Feast")]
    line = clear_store_error(Refused(f"Error 111 connecting to {connection}"), read_repo_config(repo))

    assert told[1].state == "failed"
    assert "begins with no host:port" in told[1].found or "refused" in told[1].found
    assert MARK not in redacted(f"{told}{line}")
    assert not [result for result in told if MARK in result.found]
