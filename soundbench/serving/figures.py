"""The figures of a server, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

__all__ = ["CONTENT_TYPE", "Figures"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32)


class Figures:
    """What a server has done since it began.

    Args:
        waiting: the number of requests that wait now.
        streams: the number of streams that are open now.
    """

    def __init__(self, waiting: Callable[[], float], streams: Callable[[], float]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("soundbench_requests", "Requests answered.", ["endpoint", "status"], registry=registry)
        self._latency = Histogram(
            "soundbench_request_seconds",
            "Seconds from the beginning of a request to its answer.",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self._rows = Histogram("soundbench_batch_windows", "Windows of a batch.", buckets=ROWS, registry=registry)
        self._sound = Counter("soundbench_sound_seconds", "Seconds of sound scored.", registry=registry)
        Gauge("soundbench_waiting_requests", "Requests that wait.", registry=registry).set_function(waiting)
        Gauge("soundbench_open_streams", "Streams that are open.", registry=registry).set_function(streams)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(endpoint, str(status)).inc()
        self._latency.labels(endpoint).observe(seconds)

    def batch(self, rows: int) -> None:
        """Count a batch."""
        self._rows.observe(rows)

    def sound(self, seconds: float) -> None:
        """Count sound."""
        self._sound.inc(seconds)

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._registry)
