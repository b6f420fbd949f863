"""The shapes in which Prometheus is told numbers. Every name begins with `execution_`, which is added here.

A value of None means that there is none here. With labels, each value comes with those that it is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from execution.durations import Durations

Labels = Sequence[str]


def gauge(name: str, text: str, value: float | None) -> Metric:
    """What goes up and down."""
    return GaugeMetricFamily(f"execution_{name}", text, value)


def gauge_by(labels: Labels, name: str, text: str, values: Iterable[tuple[Labels, float]]) -> Metric:
    """The same for each of some labels."""
    return _filled(GaugeMetricFamily(f"execution_{name}", text, labels=labels), values)


def counter(name: str, text: str, value: float | None) -> Metric:
    """What only goes up."""
    return CounterMetricFamily(f"execution_{name}", text, value)


def counter_by(labels: Labels, name: str, text: str, values: Iterable[tuple[Labels, float]]) -> Metric:
    """The same for each of some labels."""
    return _filled(CounterMetricFamily(f"execution_{name}", text, labels=labels), values)


def histogram_by(labels: Labels, name: str, text: str, values: Iterable[tuple[Labels, Durations]]) -> Metric:
    """How long something took, how often."""
    family = HistogramMetricFamily(f"execution_{name}", text, labels=labels)
    for of, durations in values:
        bounds = [*(f"{bound:g}" for bound in durations.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(durations.counts), strict=True))
        family.add_metric(of, buckets=buckets, sum_value=durations.total)
    return family


def summary_by(labels: Labels, name: str, text: str, values: Iterable[tuple[Labels, int, float]]) -> Metric:
    """How often something was, and how much altogether."""
    return _filled(SummaryMetricFamily(f"execution_{name}", text, labels=labels), values)


def _filled(family: Any, values: Iterable[tuple[Any, ...]]) -> Metric:
    """The family with its values, each behind the labels that it is of."""
    for of, *numbers in values:
        family.add_metric(of, *numbers)
    filled: Metric = family
    return filled
