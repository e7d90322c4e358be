"""What tenants and keys may take, as settings say it: a JSON object, or a file with one.

    {"default": {"requests_per_min": 600, "characters_per_min": 60000, "turns": 20},
     "tenants": {"acme": {"weight": 3, "turns": 100, "keys": {"batch-1": {"priority": "low"}}}}}

Each key has limits of its own. What is not said of it is its tenant's, then the default's; 0 is no limit.
What comes with the key itself, where callers show one, goes before all of them.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.access.caller import Caller, Limits, Priority
from voicemesh import tenant as tenants

_MAX_BYTES = 1_000_000
PRIORITIES = {"low": Priority.LOW, "normal": Priority.NORMAL, "high": Priority.HIGH}
_Count = Annotated[int, Field(ge=0, le=1_000_000_000)]


class KeyRules(BaseModel):
    """What one key may take."""

    model_config = ConfigDict(extra="forbid")

    requests_per_min: _Count | None = None
    """Turns that may begin in a minute."""
    characters_per_min: _Count | None = None
    """Characters of prompts, and of what is spoken, in a minute."""
    turns: _Count | None = None
    """Turns that may run at once."""
    priority: Literal["low", "normal", "high"] | None = None
    """The highest that may be asked for."""


class TenantRules(KeyRules):
    """What each key of a tenant may take, and what share the tenant has."""

    weight: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Its share of the places, beside others of weight 1."""
    keys: dict[str, KeyRules] = Field(default_factory=dict)


class Rules(BaseModel):
    """All of it."""

    model_config = ConfigDict(extra="forbid")

    default: TenantRules = Field(default_factory=TenantRules)
    tenants: dict[str, TenantRules] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.default.keys:
            raise ValueError("default.keys: keys belong to a tenant")
        for name in self.tenants:
            if wrong := tenants.problem(name):
                raise ValueError(f"tenants: {name[:80]!r} {wrong}")
        return self

    def limits(self, caller: Caller) -> Limits:
        """Return what a caller may take."""
        known = self._known(caller)

        def most(name: str) -> int:
            own: int = getattr(caller.limits, name)
            return own or next((value for rules in known if (value := getattr(rules, name)) is not None), 0)

        return Limits(most("requests_per_min"), most("characters_per_min"), most("turns"))

    def ceiling(self, caller: Caller) -> Priority:
        """Return the highest priority that a caller may ask for."""
        known = self._known(caller)
        said = next((rules.priority for rules in known if rules.priority is not None), "high")
        return min(caller.priority, PRIORITIES[said])

    def weight(self, tenant: str) -> float:
        """Return a tenant's share beside others."""
        own = self.tenants.get(tenant)
        if own is not None and own.weight is not None:
            return own.weight
        return self.default.weight or 1.0

    def _known(self, caller: Caller) -> tuple[KeyRules, ...]:
        own = self.tenants.get(caller.tenant)
        if own is None:
            return (self.default,)
        key = own.keys.get(caller.key_id)
        return (key, own, self.default) if key is not None else (own, self.default)


def read(text: str, path: str) -> Rules:
    """Return the rules of a setting, or of a file; without either, there are no limits.

    Raises:
        ValueError: Both are given, the file cannot be read, or what is there is not what it should be.

    """
    if text and path:
        raise ValueError("VOICEMESH_GATEWAY_LIMITS and VOICEMESH_GATEWAY_LIMITS_FILE: set one of them")
    variable = "VOICEMESH_GATEWAY_LIMITS_FILE" if path else "VOICEMESH_GATEWAY_LIMITS"
    if path:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"{variable}: cannot read {path}: {error.strerror}") from None
        if len(data) > _MAX_BYTES:
            raise ValueError(f"{variable}: {path} is larger than {_MAX_BYTES} bytes")
        text = data.decode(errors="replace")
    if not text:
        return Rules()
    try:
        found: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{variable}: is no JSON: {error}") from None
    try:
        return Rules.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{variable}: {where + ': ' if where else ''}{first['msg']}") from None
