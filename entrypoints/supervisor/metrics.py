"""Several processes' numbers made one: what counts is added up, and never steps back when a process dies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""A number's name and labels."""

COUNTING: Final = frozenset({"counter", "histogram", "summary"})
EARLIEST: Final = ("_created", "_start_time_seconds")
"""Moments: of several the first one stands for all."""
GREATEST: Final = ("_max_fds", "_info", "_state")
"""Limits and conditions: their sum would mean nothing."""


class Family(Struct, array_like=True):
    """One metric with the numbers of all its labels."""

    name: str
    meaning: str
    kind: str
    samples: dict[Sample, float]


Numbers = Mapping[str, Family]

_decoder = msgspec.msgpack.Decoder(dict[str, Family])


def numbers_of(registry: CollectorRegistry) -> Numbers:
    """What one process counts, now."""
    return {
        metric.name: Family(
            metric.name,
            metric.documentation,
            metric.type,
            {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in metric.samples},
        )
        for metric in registry.collect()
    }


def to_bytes(numbers: Numbers) -> bytes:
    return msgspec.msgpack.encode(numbers)


def from_bytes(sent: bytes) -> Numbers:
    return _decoder.decode(sent)


def merged(several: Iterable[Numbers]) -> Numbers:
    """The numbers of all together."""
    result: dict[str, Family] = {}
    for numbers in several:
        for one in numbers.values():
            into = result.setdefault(one.name, Family(one.name, one.meaning, one.kind, {}))
            for sample, value in one.samples.items():
                before = into.samples.get(sample)
                into.samples[sample] = value if before is None else _joined(sample[0], before, value)
    return result


def counted(numbers: Numbers) -> Numbers:
    """What remains of a process that has ended: what it counted, not the state that it was in."""
    return {name: one for name, one in numbers.items() if one.kind in COUNTING}


def exposed(numbers: Numbers) -> bytes:
    """In Prometheus' text form."""
    return generate_latest(_Merged(numbers))


def _joined(name: str, one: float, other: float) -> float:
    if name.endswith(EARLIEST):
        return min(one, other)
    if name.endswith(GREATEST):
        return max(one, other)
    return one + other


class _Merged(Collector):
    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterable[Metric]:
        for one in self._numbers.values():
            metric = Metric(one.name, one.meaning, one.kind)
            for (name, labels), value in one.samples.items():
                metric.add_sample(name, dict(labels), value)
            yield metric
