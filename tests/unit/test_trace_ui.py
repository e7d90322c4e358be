"""What `make trace-ui` says before and behind the UI itself, which is not here."""

import importlib.util
import pathlib
import socket
from typing import Any

import pytest

PATH = pathlib.Path(__file__).resolve().parents[2] / "tools" / "trace_ui.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("trace_ui", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trace_ui = _load()


def span(span_id: str, name: str, parent: str | None, start: str) -> dict[str, Any]:
    return {"context": {"span_id": span_id}, "name": name, "parent_id": parent, "start_time": start}


def test_a_trace_is_told_below_its_parents_in_order_of_time() -> None:
    spans = [
        span("c", "POST", "b", "2026-01-01T00:00:02"),
        span("d", "Chunk", "a", "2026-01-01T00:00:03"),
        span("a", "turn", "of the caller", "2026-01-01T00:00:00"),
        span("b", "chat", "a", "2026-01-01T00:00:01"),
    ]
    assert trace_ui.tree(spans) == ["  turn", "    chat", "      POST", "    Chunk"]


def test_a_service_is_there_once_it_answered_a_call() -> None:
    calls = [name for service, name in trace_ui.SERVICES.items() if service != "gateway"]
    asked = [span(name, name, "t", "1") for name in calls]
    assert trace_ui.absent([span("t", "turn", None, "0"), *asked]) == ["llm", "chunker", "tts", "cache"]
    assert trace_ui.absent([*asked, *asked]) == ["gateway"]
    assert trace_ui.absent([span("t", "turn", None, "0"), *asked, *asked]) == []


@pytest.mark.parametrize(("port", "why"), [(0, "1 to 65535"), (65536, "1 to 65535")])
def test_a_port_that_cannot_be_is_named(port: int, why: str) -> None:
    assert why in trace_ui.why_taken(port)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server((trace_ui.HOST, 0)) as taken:
        assert "in use" in trace_ui.why_taken(taken.getsockname()[1])


def test_the_mesh_is_told_where_traces_go_and_no_metrics() -> None:
    told = trace_ui.environment(4317)
    assert told["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://127.0.0.1:4317"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in told
