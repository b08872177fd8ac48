"""What Prometheus reads: requests, tokens, money, vendors, the ledger's batches.

Counting is on the path of every request, so that the labelled children are looked up in one dictionary,
which is faster by far than the library's own way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, Final

from litestar import Controller, Response, get
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from application.inference.metering import Meter
from domain.keys import Scope
from domain.ledger import HoldSettled, SettleHold
from domain.routing import Ordering
from domain.usage import Generation
from entrypoints.http.guards import Needs, entrance_of

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
BATCH_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
TOKEN_KINDS: Final = (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "cache_write_other", "output", "reasoning",
    "audio_in", "audio_out", "image_in", "image_out",
)  # fmt: skip


class Metrics:
    """One process's numbers; a registry of its own, so that several can live in one test."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.of_all: Callable[[], Awaitable[bytes]] | None = None
        """What several worker processes count together; None where this process is the only one."""
        ProcessCollector(registry=self.registry)
        self._requests = self._counter(
            "requests", "Requests answered.", "route", "status", "model", "vendor", "outcome"
        )
        self._durations = self._histogram("request_seconds", "From request to end of answer.", SECONDS, "route")
        self._first_tokens = self._histogram("first_token_seconds", "From request to first content.", SECONDS, "vendor")
        self._tokens = self._counter("tokens", "Tokens used, by class.", "model", "vendor", "kind")
        self._cost = self._counter("cost_nanos", "Nano-dollars charged.", "model", "vendor")
        self._cache_saved = self._counter(
            "cache_saved_nanos",
            "Nano-dollars that vendors' prompt caches saved; kept: routing had kept the conversation there.",
            "model",
            "vendor",
            "kept",
        )
        self._overrun = self._counter("overrun_nanos", "Nano-dollars beyond all credit of their customer.")
        self._loss = self._counter("vendor_loss_nanos", "Nano-dollars that vendors produced and no customer pays.")
        self._attempts = self._counter("vendor_attempts", "Calls of vendors; no fault is success.", "vendor", "fault")
        self._batch_sizes = self._histogram("ledger_batch_operations", "Operations per commit.", BATCH_SIZES)
        self._batch_times = self._histogram("ledger_batch_seconds", "Time per commit.", BATCH_SECONDS)
        self._children: dict[tuple[object, ...], Any] = {}

    def answered(self, route: str, status: int, meter: Meter | None) -> None:
        """A request has been answered, or its stream has ended."""
        record = meter.record if meter else None
        if meter is None or record is None:
            self._child(self._requests, route, str(status), "", "", "").inc()
            return
        labels = (route, str(status), record.model, record.vendor, str(record.outcome))
        self._child(self._requests, *labels).inc()
        if saved := meter.cache_saved:
            kept = str(meter.route.ordering is Ordering.CACHE).lower()
            self._child(self._cache_saved, record.model, record.vendor, kept).inc(saved.nanos)
        self._child(self._durations, route).observe(record.duration_ms / 1000)
        if record.first_token_ms is not None:
            self._child(self._first_tokens, record.vendor).observe(record.first_token_ms / 1000)

    def settled(self, operation: SettleHold, result: HoldSettled) -> None:
        """A hold has ended with a record."""
        record = operation.record
        self._count_usage(record)
        if result.charged:
            self._child(self._cost, record.model, record.vendor).inc(result.charged.nanos)
        if result.overrun:
            self._overrun.inc(result.overrun.nanos)
        if record.loss:
            self._loss.inc(record.loss.nanos)
        for attempt in record.attempts:
            self._child(self._attempts, attempt.vendor, attempt.fault or "").inc()

    def batch_committed(self, operations: int, seconds: float) -> None:
        """The ledger has written a batch."""
        self._batch_sizes.observe(operations)
        self._batch_times.observe(seconds)

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Show a number that somebody else keeps, such as open streams, as it is when asked for."""
        Gauge(f"gatewayz_{name}", meaning, registry=self.registry).set_function(read)

    def exposed(self) -> bytes:
        return generate_latest(self.registry)

    def _count_usage(self, record: Generation) -> None:
        for kind in TOKEN_KINDS:
            if count := getattr(record.usage, kind):
                self._child(self._tokens, record.model, record.vendor, kind).inc(count)

    def _child(self, metric: Counter | Histogram, *labels: str) -> Any:
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"gatewayz_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"gatewayz_{name}", meaning, labels, buckets=buckets, registry=self.registry)


class Scraper(Needs):
    """Lets the operator's own network pass, and admin keys from elsewhere."""

    def __init__(self) -> None:
        super().__init__(Scope.ADMIN)

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        address = entrance_of(connection).addresses(connection.scope)
        # Behind a proxy that is not trusted every caller seems to come from its private address.
        forwarded = "x-forwarded-for" in connection.headers
        if address is None or forwarded or not ip_address(address).is_private:
            await super().__call__(connection, handler)


class MetricsController(Controller):
    tags = ("Health",)

    @get("/metrics", guards=[Scraper()])
    async def show(self, metrics: NamedDependency[Metrics]) -> Response[bytes]:
        """The numbers of all processes of this server, in Prometheus' text form."""
        numbers = await metrics.of_all() if metrics.of_all else metrics.exposed()
        return Response(numbers, media_type=CONTENT_TYPE_PLAIN_0_0_4)
