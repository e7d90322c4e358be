"""Metrics as Prometheus would see them, without a socket."""

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from voicemesh.runtime.exemplars import make_provider
from voicemesh.runtime.metrics import LiveMetrics
from voicemesh.runtime.scraping import Scraping

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
Labels = tuple[tuple[str, str], ...]


class Scraped(LiveMetrics):
    """Metrics that are measured, and can be looked at."""

    def __init__(self) -> None:
        self.prometheus = Scraping()
        self.provider = make_provider([self.prometheus.reader])
        super().__init__(self.provider, self.prometheus)

    def close(self) -> None:
        """End the provider."""
        self.provider.shutdown()

    def samples(self) -> list[Sample]:
        """Return every sample of one scrape."""
        content_type, text = self.prometheus.render(OPENMETRICS)
        assert content_type.startswith("application/openmetrics-text")
        return samples_of(text)

    def values(self, name: str) -> dict[Labels, float]:
        """Return the samples of one name: sorted labels to value; labels that are empty are left out."""
        return values_of(self.samples(), name)


def samples_of(text: bytes) -> list[Sample]:
    """Parse what was scraped as OpenMetrics."""
    parse: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
    return [sample for family in parse(text.decode()) for sample in family.samples]


def values_of(samples: list[Sample], name: str) -> dict[Labels, float]:
    """Return the samples of one name: sorted labels to value; labels that are empty are left out."""
    return {
        tuple(sorted((label, value) for label, value in sample.labels.items() if value)): sample.value
        for sample in samples
        if sample.name == name
    }
