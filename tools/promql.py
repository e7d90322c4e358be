"""The queries of the dashboard: PromQL, narrowed by what a person has chosen above the panels."""

from typing import Final

from grafana import Query

MESH: Final = 'namespace=~"$namespace", instance=~"$instance"'
"""What every query is narrowed by."""
JOB: Final = f'{MESH}, job=~"voicemesh-.+"'
"""For metrics that other programs have too."""
VOICE: Final = f'{MESH}, voice=~"$voice"'
INTERVAL: Final = "$__rate_interval"


def rate(metric: str, by: str = "", where: str = MESH) -> str:
    """Return how fast a counter grows, a second, added up over the mesh but for the labels `by`."""
    return f"sum{_by(by)} (rate({metric}{{{where}}}[{INTERVAL}]))"


def quantile(share: float, metric: str, by: str = "", where: str = MESH) -> str:
    """Return a quantile of a histogram (its name without `_bucket`)."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, where)})"


def mean(metric: str, by: str = "", where: str = MESH) -> str:
    """Return the mean of a histogram."""
    return f"{rate(f'{metric}_sum', by, where)} / {rate(f'{metric}_count', by, where)}"


def level(metric: str, by: str = "", where: str = MESH) -> str:
    """Return a gauge, added up."""
    return f"sum{_by(by)} ({metric}{{{where}}})"


def share(part: str, whole: str) -> str:
    """Return a ratio; where the part has no series yet it is 0, and where the whole is 0 there is none."""
    return f"(({part}) or 0 * ({whole})) / (({whole}) > 0)"


def quantiles(metric: str, where: str = MESH) -> list[Query]:
    """Return p50, p95 and p99 of a histogram, with exemplars."""
    return [
        Query(quantile(value, metric, where=where), f"p{value * 100:g}", exemplar=value == 0.95)
        for value in (0.5, 0.95, 0.99)
    ]


def by_label(share_of: float, metric: str, label: str, where: str = MESH) -> Query:
    """Return a quantile of a histogram for each value of a label, with exemplars."""
    return Query(quantile(share_of, metric, label, where), f"{{{{{label}}}}}", exemplar=True)


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
