"""What Prometheus scrapes: the metrics of a process over HTTP, with exemplars that lead to traces.

OpenTelemetry's exporter turns metrics into Prometheus' families and leaves exemplars out
(https://github.com/open-telemetry/opentelemetry-python/pull/4178 would add them). Here they are put back in:
the reader notes those of each series on their way through, and `Scraping` adds them to the samples.
"""

import bisect
import contextlib
import gzip
import http.server
import io
import pathlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, Metric, MetricsData, Sum
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

_REQUESTS: Final = 8
"""Requests that are answered at once; a scraper asks one at a time, and further ones are sent away."""
_REQUEST_S: Final = 5.0
"""How long a request may take to arrive, however it trickles in, and then its answer to leave."""
_PAUSE_S: Final = 0.1
_PATHS: Final = ("/metrics", "/")

_SeriesName = tuple[str, frozenset[tuple[str, str]]]
"""Name of a sample without what the unit adds, and its labels."""


class _Reader(PrometheusMetricReader):
    """Keeps the last exemplar of each series as metrics pass through."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(scope_info_enabled=False, registry=registry)
        # As many as there are series at most. Kept, because the provider forgets them at each collection:
        # of two who scrape, only one would see them.
        self.exemplars: dict[_SeriesName, Exemplar] = {}

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        for resource in metrics_data.resource_metrics if metrics_data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self._note(metric)
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)

    def _note(self, metric: Metric) -> None:
        if not isinstance(metric.data, (Histogram, Sum)):
            return
        name = _plain(metric.name)
        for point in metric.data.data_points:
            labels = {(_plain(label), str(value)) for label, value in (point.attributes or {}).items()}
            for exemplar in point.exemplars:
                if not (exemplar.trace_id and exemplar.span_id):
                    continue
                where = set(labels)
                if isinstance(point, HistogramDataPoint):
                    bounds = point.explicit_bounds
                    index = bisect.bisect_left(bounds, exemplar.value)
                    where.add(("le", f"{bounds[index]}" if index < len(bounds) else "+Inf"))
                self.exemplars[name, frozenset(where)] = Exemplar(
                    {
                        "trace_id": format_trace_id(exemplar.trace_id),
                        "span_id": format_span_id(exemplar.span_id),
                    },
                    exemplar.value,
                    exemplar.time_unix_nano / 1e9,
                )


def _plain(name: str) -> str:
    return name.replace(".", "_")


class Scraping(Collector):
    """Answers whoever scrapes this process.

    Attributes:
        reader: What the meter provider reads its metrics with.

    """

    def __init__(self) -> None:
        self._families = CollectorRegistry(auto_describe=False)
        self.reader = _Reader(self._families)
        # The exporter mixes up two collections at a time.
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def render(self, accept: str) -> tuple[str, bytes]:
        """Return content type and text for a scraper that accepts `accept`; waits for the event loop.

        For other threads than the event loop's. Exemplars are in `application/openmetrics-text` alone.
        """
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self)

    def collect(self) -> Iterable[Family]:
        """Return the families with their exemplars."""
        with self._lock:
            return [self._with_exemplars(family) for family in self._families.collect()]

    def _with_exemplars(self, family: Family) -> Family:
        unit = f"_{family.unit}" if family.unit else ""
        suffix = {"histogram": "_bucket", "counter": "_total"}.get(family.type, "")
        if suffix:
            names = {family.name, family.name.removesuffix(unit)}
            family.samples = [
                self._with_exemplar(sample, names) if sample.name.endswith(suffix) else sample
                for sample in family.samples
            ]
        return family

    def _with_exemplar(self, sample: Sample, names: set[str]) -> Sample:
        # A label that other series of the family have, and this one has not, is empty.
        labels = frozenset((label, value) for label, value in sample.labels.items() if value)
        for name in names:
            exemplar = self.reader.exemplars.get((name, labels))
            if exemplar is not None:
                return sample._replace(exemplar=exemplar)
        return sample

    def listen(self, address: str) -> None:
        """Answer HTTP at `address`, `HOST:PORT` or `unix:PATH`, in threads of their own.

        Raises:
            OSError: The address is taken, or none of this machine.

        """
        self._server = _UnixServer(address, self) if address.startswith("unix:") else _Server(address, self)
        threading.Thread(target=self._server.serve, name="metrics-http", daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens, with the port that was taken for port 0; "" where it does not."""
        return self._server.address if self._server is not None else ""

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.end()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, address: str, scraping: Scraping) -> None:
        self.scraping = scraping
        self._places = threading.BoundedSemaphore(_REQUESTS)
        self._ended = threading.Event()
        super().__init__(self._resolved(address), _Handler)

    def _resolved(self, address: str) -> Any:
        host, _, port = address.rpartition(":")
        family, _, _, _, resolved = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        return resolved

    @property
    def address(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def serve(self) -> None:
        """Answer until `end`. Unlike `serve_forever` it waits without looking twice a second."""
        while not self._ended.is_set():
            try:
                request, client_address = self.get_request()
            except OSError:  # ended; or no file descriptor is free, which passes
                self._ended.wait(_PAUSE_S)
                continue
            self.process_request(request, client_address)

    def end(self) -> None:
        """Stop listening."""
        self._ended.set()
        with contextlib.suppress(OSError):  # the thread that waits in `accept` goes on from there
            self.socket.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked went away before the answer."""


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def _resolved(self, address: str) -> Any:
        path = address.removeprefix("unix:")
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
            raise OSError(f"{path} is in use")
        # Left behind by a process that was killed: a socket that nobody answers at.
        if pathlib.Path(path).is_socket():
            pathlib.Path(path).unlink()
        self._path = path
        return path

    @property
    def address(self) -> str:
        return f"unix:{self._path}"

    def get_request(self) -> Any:
        request, _ = self.socket.accept()
        return request, ("unix", 0)

    def server_close(self) -> None:
        super().server_close()
        pathlib.Path(self._path).unlink(missing_ok=True)


class _Arriving(io.RawIOBase):
    """What a client sends until a time; a timeout of a socket alone begins again with every byte."""

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        super().__init__()
        self._connection = connection
        self._until_s = until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Arriving(self.connection, time.monotonic() + _REQUEST_S))

    def do_GET(self) -> None:
        """Answer a scrape."""
        self.connection.settimeout(_REQUEST_S)
        if self.path.partition("?")[0] not in _PATHS:
            self.send_error(404, explain="metrics are at /metrics")
            return
        content_type, text = self.server.scraping.render(self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        if gzip_accepted(self.headers.get("Accept-Encoding", "")):
            text = gzip.compress(text, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing: a scrape is no news."""
