"""`GET /metrics` of real workers: of one, and of two of which one is killed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.actors import logistic
from tests.models import Made
from tests.seasons import WEAK
from tests.servers import Running
from tests.serving import Serve, serving, until
from tests.stage import staged

ROW = {"inputs": {"a": 1.0, "b": 2.0}}
Labels = frozenset[tuple[str, str]]


def scraped(http: httpx.Client) -> dict[tuple[str, Labels], float]:
    """(name, labels) → value, as Prometheus would read it now."""
    response = http.get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(response.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def told(found: Mapping[tuple[str, Labels], float], name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_each_prediction_adds_one_request_its_rows_and_its_duration(
    server: Running, models: Mapping[str, Made]
) -> None:
    made = models["fraud"]
    request = {"model": "fraud", "version": "1", "code": "200"}
    before = scraped(server.http)
    server.predict("fraud", [made.rows[0]] * 3)
    server.predict("fraud", made.rows[0])
    after = scraped(server.http)

    def more(name: str, **labels: str) -> float:
        return told(after, name, **labels) - told(before, name, **labels)

    assert more("understudy_requests_total", **request) == 2
    assert more("understudy_rows_total", model="fraud", version="1") == 4
    assert more("understudy_request_duration_seconds_count", model="fraud") == 2
    assert more("understudy_request_duration_seconds_bucket", model="fraud", le="+Inf") == 2
    assert more("understudy_request_duration_seconds_sum", model="fraud") > 0
    assert told(after, "understudy_requests_in_flight") == 0
    assert told(after, "understudy_ready") == 1
    assert told(after, "understudy_champion_info", model="fraud", version="1") == 1


def test_a_name_that_nobody_gave_a_model_makes_no_label(server: Running) -> None:
    before = told(scraped(server.http), "understudy_requests_total", model="", version="", code="404")
    for name in ("never-heard-of", "another-one"):
        assert server.http.post(f"/models/{name}/predict", json=ROW).status_code == 404
    text = server.http.get("/metrics").text
    assert "never-heard-of" not in text
    assert told(scraped(server.http), "understudy_requests_total", model="", version="", code="404") >= before + 2


def test_openmetrics_is_answered_to_who_accepts_it(server: Running) -> None:
    response = server.http.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert response.text.endswith("# EOF\n")


def n_answered(serve: Serve) -> float:
    """The predictions that whichever worker accepts this connection knows of."""
    with httpx.Client(base_url=serve.url, timeout=60, trust_env=False) as http:
        return told(scraped(http), "understudy_requests_total", model="m", version="1", code="200")


def test_two_workers_tell_one_sum_which_a_kill_makes_no_smaller(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with staged(store, source="server") as stage:
        stage.declare()
        stage.champion(logistic(WEAK))
    with serving(store, server__workers=2) as serve:
        serve.ready()
        until(lambda: len(serve.workers("gateway")) == 2, "two workers")
        for _ in range(30):
            with httpx.Client(base_url=serve.url, timeout=60, trust_env=False) as http:  # a connection each
                assert http.post("/models/m/predict", json=ROW).status_code == 200
        until(lambda: n_answered(serve) == 30, "both have poured")
        killed = serve.workers("gateway")[0]
        killed.kill()
        killed.wait()
        assert n_answered(serve) == 30

        def replaced() -> bool:
            pids = {worker.pid for worker in serve.workers("gateway")}
            return len(pids) == 2 and killed.pid not in pids

        until(replaced, "another one takes its place")
        assert [n_answered(serve) for _ in range(10)] == [30] * 10
        assert serve.stop() == 0
    assert not list(store.glob("tallies-*"))
