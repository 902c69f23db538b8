"""``qarm doctor`` says what it understood of a text backbone."""

from qarm_features.cli.doctor import checks
from qarm_features.storage.objects import ObjectPath
from tests.encoders import published_backbones as shapes
from tests.encoders.published_backbones import dense, published


def found(tmp_path, folder, more=""):
    (tmp_path / "qarm.yaml").write_text(
        "items: {path: a.parquet, text: [title]}\ninteractions: {path: b.parquet}\n"
        f"encoder: {{text_backbone: {folder}{more}}}\n"
    )
    return next(check for check in checks(tmp_path / "qarm.yaml") if check.name == "encoder").run()


def test_one_line_says_each_thing_that_was_understood(tmp_path):
    folder = published(
        tmp_path / "tiny", shapes.qwen3, "lasttoken", dense(12), "Normalize",
        prompts={"document": "the item: "}, transformer={"max_seq_length": 64},
    )  # fmt: skip

    result = found(tmp_path, folder, ", text_dim: 6, max_tokens: 32")

    assert result.state == "ok"
    assert [line.strip() for line in result.found.splitlines()] == [
        f"{folder} gave an item embedding of 6 dimensions",
        "pooling: last token",
        "prompt: 'the item: '",
        "layers: Dense 16 -> 12 with Tanh",
        "longest text: 32 tokens (encoder.max_tokens), of 64 that its authors allow",
        "vector: 6 values of 12, normalized by its authors; item embeddings always are",
    ]


def test_a_plain_folder_is_called_one(tmp_path):
    folder = published(tmp_path / "tiny", shapes.bert, None)
    (tmp_path / "tiny" / "modules.json").unlink()

    lines = found(tmp_path, folder).found.splitlines()

    assert (
        lines[1].strip() == "pooling: mean of all tokens (it has no modules.json, so nothing says how its authors pool)"
    )
    assert "not normalized by its authors" in lines[-1]


def test_a_refused_backbone_fails_with_its_reason(tmp_path):
    result = found(tmp_path, published(tmp_path / "e5-base", shapes.bert, "mean"))

    assert result.state == "failed"
    assert "expects a prompt that its authors name on its page, not in its files" in result.found


def artifacts_check(tmp_path, artifacts):
    (tmp_path / "qarm.yaml").write_text(
        f"artifacts: {artifacts}\nitems: {{path: a.parquet}}\ninteractions: {{path: b.parquet}}\n"
    )
    return next(check for check in checks(tmp_path / "qarm.yaml") if check.name == "artifacts").run()


def test_an_object_store_is_asked_whether_it_keeps_two_writers_apart(tmp_path, bucket, monkeypatch):
    local, remote = artifacts_check(tmp_path, "artifacts"), artifacts_check(tmp_path, f"{bucket}/shop")
    monkeypatch.setattr(ObjectPath, "create", lambda path, content: path.write_bytes(content) or True)
    careless = artifacts_check(tmp_path, f"{bucket}/shop")

    assert (local.state, local.found) == ("ok", f"{tmp_path}/artifacts on this machine")
    assert (remote.state, remote.found) == (
        "ok",
        f"{bucket}/shop keeps conditional writes; copies are in {tmp_path}/cache",
    )
    assert (careless.state, careless.found.partition(",")[0]) == (
        "failed",
        f"{bucket}/shop lets two writers write one object",
    )
    assert list(ObjectPath(bucket).objects()) == []
