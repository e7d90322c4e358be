"""Whose places they are: weighted max-min shares of the present limit.

    limit 20         A asks for 60      B for 6      C for 4
    equal weights    A has 10           B has 6      C has 4      what B and C leave is A's

A tenant counts while it has a turn, or had one refused a moment ago. While all together want no more than
there is, nobody is held to anything. A tenant that finds every place taken, and has less than its share, gets
one above the limit, until others' turns end.

Sans-I/O: times are passed in, in nanoseconds.
"""

import math
from dataclasses import dataclass
from typing import Final

MOST_TENANTS: Final = 4096
"""Beyond so many, the refusals of further ones are not remembered: they have one place at least."""
_STALE_NS: Final = 50_000_000
_REMEMBERED_S: Final = 1.0
"""Refused turns count as wanted for about so long."""
_NEGLIGIBLE: Final = 0.05


@dataclass(slots=True)
class _Tenant:
    weight: float
    running: float = 0.0
    refused: float = 0.0
    refused_ns: int = 0

    def wants(self, now_ns: int) -> float:
        """Return the places that it has, and would have had lately."""
        if self.refused:
            self.refused *= math.exp(-(now_ns - self.refused_ns) / 1e9 / _REMEMBERED_S)
            self.refused_ns = now_ns
            if self.refused < _NEGLIGIBLE:
                self.refused = 0.0
        return self.running + self.refused


class Shares:
    """The places of tenants."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._level = math.inf
        """Places for each unit of weight; infinite while there is enough for all."""
        self._levelled_ns = -_STALE_NS
        self._levelled_for = 0.0
        self._weights = 0.0
        """Of all that count."""
        self.running = 0.0
        """Places that are taken, weighted by what they cost."""

    def __len__(self) -> int:
        """Tenants that are known."""
        return len(self._tenants)

    def of(self, tenant: str) -> float:
        """Return the places that a tenant has."""
        known = self._tenants.get(tenant)
        return known.running if known is not None else 0.0

    def within(self, tenant: str, weight: float, cost: float, limit: float, now_ns: int) -> bool:
        """Say whether a tenant that takes `cost` more places keeps to its share of `limit`."""
        self._refresh(limit, now_ns)
        return self.of(tenant) + cost <= max(1.0, self._level * weight)

    def contested(self, tenant: str) -> bool:
        """Say whether another tenant counts: one that is alone has no share. To be asked behind `within`."""
        return len(self._tenants) > (tenant in self._tenants)

    def is_short(self, tenant: str, weight: float, cost: float, limit: float) -> bool:
        """Say whether a tenant has less than would be its share if all others wanted theirs.

        Where every place is taken, others then have more than that. To be asked behind `within`.
        """
        others = self._weights if tenant in self._tenants else self._weights + weight
        return self.of(tenant) + cost <= limit * weight / max(others, weight)

    def take(self, tenant: str, weight: float, cost: float) -> None:
        """Take places: fewer than none gives them back."""
        known = self._tenants.get(tenant)
        if known is None:
            known = self._tenants[tenant] = _Tenant(weight)
        known.weight = weight
        known.running = max(0.0, known.running + cost)
        self.running = max(0.0, self.running + cost)

    def refused(self, tenant: str, weight: float, cost: float, now_ns: int) -> None:
        """Take note of a turn that would have taken `cost` places."""
        known = self._tenants.get(tenant)
        if known is None:
            if len(self._tenants) >= MOST_TENANTS:
                return
            known = self._tenants[tenant] = _Tenant(weight)
        known.wants(now_ns)
        known.refused += cost
        known.refused_ns = now_ns

    def _refresh(self, limit: float, now_ns: int) -> None:
        """Find the level, unless it was found a moment ago: a flood of refusals must stay cheap."""
        if now_ns - self._levelled_ns < _STALE_NS and limit == self._levelled_for:
            return
        self._levelled_ns, self._levelled_for = now_ns, limit
        wanted = []
        for name, tenant in list(self._tenants.items()):
            wants = tenant.wants(now_ns)
            if wants < _NEGLIGIBLE:
                del self._tenants[name]
            else:
                wanted.append((wants, tenant.weight))
        self._weights = sum(weight for _, weight in wanted)
        self._level = level(wanted, limit)


def level(wanted: list[tuple[float, float]], places: float) -> float:
    """Return how many places each unit of weight gets of those that there are.

    Args:
        wanted: What each wants, and its weight.
        places: What there is.

    Returns:
        Infinity where there is enough for all.

    """
    left, weights = places, sum(weight for _, weight in wanted)
    for wants, weight in sorted(wanted, key=lambda each: each[0] / each[1]):
        if wants / weight >= left / weights:
            return left / weights
        left -= wants
        weights -= weight
    return math.inf
