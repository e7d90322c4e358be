"""Rules of our own for the manifests: one function each, which says what breaks it and where."""

from k8s.rules import (
    containers,
    names,
    network,
    pods,
    quotas,
    references,
    scaling,
    services,
    settings,
    shut,
)
from k8s.rules.registry import RULES, Breach, Rule, breaches

__all__ = [
    "RULES",
    "Breach",
    "Rule",
    "breaches",
    "containers",
    "names",
    "network",
    "pods",
    "quotas",
    "references",
    "scaling",
    "services",
    "settings",
    "shut",
]
