"""Checks, in production, that the attribution of turns holds; counts and logs where it does not."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from gateway.core.invariant import Rule, violations
from gateway.core.report import TurnReport


class Audit:
    """Checks a share of all turns.

    Attributes:
        checked: Turns that were checked.
        broken: Turns that break a rule, by rule.
        on_violation: Is called for each rule that a turn breaks; replaced by who exports metrics.

    Args:
        share: Of the turns, 0 to 1.
        chance: Gives numbers from 0 up to 1.

    """

    def __init__(self, share: float, chance: Callable[[], float] = random.random) -> None:
        self._share = share
        self._chance = chance
        self.checked = 0
        self.broken: Counter[Rule] = Counter()
        self.on_violation: Callable[[Rule], None] = lambda _: None

    def check(self, report: TurnReport, log: Any) -> tuple[Rule, ...]:
        """Return the rules that a turn breaks; none where it is not one of those that are checked.

        `log` names the turn; it gets a line for each rule.
        """
        if self._share < 1 and self._chance() >= self._share:
            return ()
        self.checked += 1
        found = violations(report)
        for rule in found:
            self.broken[rule] += 1
            self.on_violation(rule)
            attribution = report.attribution
            log.error(
                "attribution violated",
                rule=rule.value,
                ttfa_ms=attribution.ttfa_us / 1000,
                stages_ms={stage: value / 1000 for stage, value in attribution.stages.items() if value},
                unattributed_ms=attribution.unattributed_us / 1000,
                excess_ms=attribution.excess_us / 1000,
            )
        return found
