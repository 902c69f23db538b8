"""Each monitoring system reads back, by its own library, what it was told of a stage."""

import gzip
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from openlineage.client.serde import Serde
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from qarm_features.settings.load import load_settings
from qarm_features.telemetry.openlineage import event
from qarm_features.telemetry.sinks import Sinks
from qarm_features.telemetry.stage_log import BATCHES, STAGES, runs_backwards
from tests.telemetry.runs import run_of


@pytest.fixture
def receiver(monkeypatch):
    """A server on loopback that keeps what it is sent, as (method, path, body)."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            received.append((self.command, self.path, body))
            self.send_response(200)
            self.end_headers()

        do_PUT = do_POST

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.received, server.url = received, f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def told(settings, run, *, log=STAGES, **telemetry) -> Sinks:
    """Tells the systems that the flags name of a run, and returns them."""
    sinks = Sinks(load_settings(settings.feature_repo_path.parent / "qarm.yaml", telemetry=telemetry), log=log)
    sinks.started(run)
    sinks.ended(run)
    return sinks


def samples(text: str) -> dict:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def test_prometheus_reads_the_file_of_the_last_runs(settings):
    told(settings, run_of("embed_items"), prometheus_file="out.prom")
    told(settings, run_of(state="failed", error="no"), prometheus_file="out.prom")

    found = samples((settings.feature_repo_path.parent / "out.prom").read_text())

    embed = ("stage", "embed_items")
    assert found["qarm_stage_duration_seconds", embed] == 2.5
    assert found["qarm_stage_rows_rejected", embed] == 3
    assert found["qarm_stage_rows_rejected_by_reason", ("reason", 'label is "x"\nnot 0 or 1'), embed] == 1
    assert found["qarm_table_version", ("name", "interactions"), embed] == 7
    assert found["qarm_stage_failed", embed] == 0
    assert found["qarm_stage_failed", ("stage", "ingest_catalog")] == 1
    assert ("qarm_stage_rows_in", ("stage", "ingest_catalog")) not in found


def test_the_pushgateway_gets_a_group_of_its_own_for_each_stage(settings, receiver):
    told(settings, run_of(), prometheus_gateway=receiver.url)

    (method, path, body), *more = receiver.received

    assert not more
    assert method == "PUT"
    assert path.startswith("/metrics/job/qarm/")
    assert path.endswith("/stage/ingest_catalog")
    assert samples(body.decode())["qarm_stage_rows_out", ("stage", "ingest_catalog")] == 97


def test_a_batch_of_a_follower_is_told_and_not_the_run_of_its_stage_before(settings, receiver, tmp_path):
    Sinks(settings).ended(run_of("follow", rows_in=100))
    wanted = {"prometheus_gateway": receiver.url, "prometheus_file": str(tmp_path / "qarm.prom")}

    told(settings, run_of("follow", rows_in=7), log=BATCHES, **wanted)

    ((_, _, body),) = receiver.received
    for text in (body.decode(), (tmp_path / "qarm.prom").read_text()):
        assert samples(text)["qarm_stage_rows_in", ("stage", "follow")] == 7


def test_opentelemetry_gets_a_span_and_metrics(settings, receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    told(settings, run_of(lag_seconds=1.5), opentelemetry=True)

    bodies = {path: body for _, path, body in receiver.received}
    spans = ExportTraceServiceRequest.FromString(bodies["/v1/traces"]).resource_spans[0].scope_spans[0].spans
    metrics = ExportMetricsServiceRequest.FromString(bodies["/v1/metrics"]).resource_metrics[0].scope_metrics[0].metrics

    assert [span.name for span in spans] == ["ingest_catalog"]
    assert spans[0].end_time_unix_nano - spans[0].start_time_unix_nano == 2_500_000_000
    assert {one.key: one.value.int_value for one in spans[0].attributes}["qarm.written.interactions"] == 7
    assert {one.name: one.gauge.data_points[0].as_int for one in metrics}["qarm.stage.rows_rejected"] == 3
    assert {one.name: one.gauge.data_points[0].as_double for one in metrics}["qarm.stage.lag"] == 1.5


def test_openlineage_gets_start_and_end_with_the_versions_of_the_tables(settings, receiver, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
    told(settings, run_of(), openlineage=True)

    start, end = [json.loads(body) for _, _, body in receiver.received]

    assert (start["eventType"], end["eventType"]) == ("COMPLETE", "COMPLETE")  # the run of this test has ended already
    assert end["run"]["runId"] == run_of().run_id
    assert end["inputs"][0]["name"] == "/srv/shop/data/items"
    assert end["inputs"][0]["facets"]["version"]["datasetVersion"] == "4"
    assert end["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 97


@pytest.mark.parametrize(
    ("state", "kind"), [("running", "START"), ("failed", "FAIL"), ("interrupted", "ABORT"), ("succeeded", "COMPLETE")]
)
def test_an_openlineage_event_says_how_a_run_ended(state, kind):
    ended = {"ended_at": None} if state == "running" else {}
    found = json.loads(Serde.to_json(event(run_of(state=state, error="no" if state == "failed" else "", **ended))))

    assert found["eventType"] == kind
    assert ("errorMessage" in found["run"]["facets"]) == (state == "failed")


def test_mlflow_finds_the_run(settings, tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shop")
    told(settings, run_of(), mlflow=True)

    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("shop").experiment_id])

    assert run.info.status == "FINISHED"
    assert run.data.metrics["rows_rejected"] == 3
    assert run.data.params["written.interactions"] == "7"
    assert run.data.tags["qarm.stage"] == "ingest_catalog"


def test_a_system_that_does_not_answer_ends_no_job_and_is_named(settings, caplog):
    closed = "http://127.0.0.1:9"

    with caplog.at_level(logging.WARNING):
        told(settings, run_of(), prometheus_gateway=closed)

    assert "Prometheus was not told of a stage" in caplog.text
    assert "The job goes on" in caplog.text
    assert [run.stage for run in runs_backwards(settings)] == ["ingest_catalog"]


def test_a_package_that_is_missing_is_named_with_its_extra(settings, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    monkeypatch.delitem(__import__("sys").modules, "qarm_features.telemetry.prometheus", raising=False)

    with pytest.raises(ImportError, match=r"need the package prometheus_client.*qarm-features\[monitoring\]"):
        told(settings, run_of(), prometheus_file="out.prom")
