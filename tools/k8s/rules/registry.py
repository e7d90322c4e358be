"""What a rule is, and the list of all of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from k8s.objects import Manifests

Check = Callable[[Manifests], Iterator[tuple[str, str]]]
"""Gives what breaks a rule: the object, as `Deployment/tts`, and what is wrong with it."""


@dataclass(frozen=True)
class Rule:
    """Something that must be true of all that a folder gives.

    Attributes:
        name: As messages and exceptions have it.
        says: What must be true, in a sentence.
        check: Looks for what breaks it.

    """

    name: str
    says: str
    check: Check


@dataclass(frozen=True)
class Breach:
    """What breaks a rule."""

    rule: str
    where: str
    title: str
    text: str

    def __str__(self) -> str:
        """Return the line that people read."""
        return f"{self.where}: {self.title}: {self.text} [{self.rule}]"


RULES: Final[dict[str, Rule]] = {}
"""Name to rule. Filled by the modules of this package."""


def rule(check: Check) -> Check:
    """Enter a function into `RULES`: its name with dashes, and its docstring as what the rule says."""
    name = check.__name__.replace("_", "-")
    assert name not in RULES, name
    RULES[name] = Rule(name, (check.__doc__ or "").strip(), check)
    return check


def breaches(manifests: Manifests, names: tuple[str, ...] = ()) -> list[Breach]:
    """Return what breaks the rules, or those of them that are named."""
    return [
        Breach(name, manifests.where, title, text)
        for name in names or RULES
        for title, text in RULES[name].check(manifests)
    ]
