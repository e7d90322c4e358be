"""JSON Web Tokens: signed by whoever issues them, checked here against what the settings say.

What a token says of itself decides nothing: the algorithms are those of the settings, each key is for the one
algorithm that its set names, and only public keys can be had, so that no shared secret can be taken for one.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.access.algorithms import Algorithm
from gateway.access.caller import Caller, Priority
from gateway.access.jwks import Jwks
from voicemesh import tenant as tenants
from voicemesh.keyfile import SCOPES

MAX_CHARS: Final = 8_192
_MAX_SUBJECT_CHARS: Final = 128
_REMEMBERED: Final = 1_024
_REQUIRED: Final = ["exp", "iss", "aud", "sub"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token must say."""

    issuer: str
    audience: str
    algorithms: tuple[Algorithm, ...]
    leeway_s: float
    tenant_claim: str
    scope_claim: str


class UnknownKeyError(Exception):
    """A token names a key that is not known, or not yet."""


class BadTokenError(Exception):
    """A token is none, or none of ours. Why is for the log of whoever looks for a fault."""


class Tokens:
    """Reads tokens.

    Args:
        rules: What they must say.
        keys: What they are signed for.
        wall_s: Seconds since 1970.

    """

    def __init__(self, rules: Rules, keys: Jwks, wall_s: Callable[[], float]) -> None:
        self._rules = rules
        self._keys = keys
        self._wall_s = wall_s
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True, "require": _REQUIRED})
        # A signature costs a tenth of a millisecond, and a caller shows the same token with every call.
        self._known: OrderedDict[bytes, tuple[Caller, jwt.PyJWK]] = OrderedDict()

    def known(self, token: str) -> Caller | None:
        """Return whose token this is, if it was seen before and is still good."""
        mark = _mark(token)
        found = self._known.get(mark)
        if found is None:
            return None
        caller, key = found
        if not self._is_good(caller.expires_unix_s, key):
            del self._known[mark]
            return None
        self._known.move_to_end(mark)
        return caller

    def read(self, token: str) -> Caller:
        """Return whose token this is.

        Raises:
            UnknownKeyError: It names a key that is not known.
            BadTokenError: It is not to be believed.

        """
        rules = self._rules
        try:
            header = self._jwt_header(token)
            key_id = header.get("kid", "")
            key = self._keys.find(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise UnknownKeyError
            claims = self._jwt.decode(
                token,
                key,
                algorithms=list(rules.algorithms),
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway_s,
                # PyJWT has only the machine's clock for these: they are looked at below.
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, UnsupportedAlgorithm) as error:
            raise BadTokenError(type(error).__name__) from None
        caller = self._caller(claims, key)
        self._known[_mark(token)] = caller, key
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return caller

    @staticmethod
    def _jwt_header(token: str) -> dict[str, Any]:
        if len(token) > MAX_CHARS:
            raise BadTokenError("too long")
        return jwt.get_unverified_header(token)

    def _caller(self, claims: Mapping[str, Any], key: jwt.PyJWK) -> Caller:
        rules = self._rules
        now_s = self._wall_s()
        expires_s = _number(claims, "exp") + rules.leeway_s
        if now_s >= expires_s:
            raise BadTokenError("expired")
        for name in ("nbf", "iat"):
            if name in claims and _number(claims, name) > now_s + rules.leeway_s:
                raise BadTokenError(f"{name} is in the future")
        subject, tenant = claims["sub"], claims.get(rules.tenant_claim, "")
        if not isinstance(subject, str) or not 1 <= len(subject) <= _MAX_SUBJECT_CHARS:
            raise BadTokenError("subject")
        if not isinstance(tenant, str) or tenants.problem(tenant):
            raise BadTokenError("tenant")
        return Caller(
            tenant=tenant,
            # No key of the file can have this id.
            key_id=f"sub:{subject}",
            scopes=_scopes(claims.get(rules.scope_claim, "")),
            priority=Priority.NORMAL,
            expires_unix_s=expires_s,
            is_good=partial(self._is_good, expires_s, key),
        )

    def _is_good(self, expires_s: float | None, key: jwt.PyJWK) -> bool:
        """Say whether a token that was good still is: its time is not over, and its key not withdrawn."""
        found = self._keys.find(key.key_id or "")
        in_time = expires_s is None or self._wall_s() < expires_s
        return in_time and found is not None and found.key == key.key


def _mark(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise BadTokenError(name)
    return float(value)


def _scopes(claim: Any) -> frozenset[str]:
    """Return the scopes of a claim, which is a text with spaces or a list; those of others are left out."""
    names = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(name for name in names if isinstance(name, str) and name in SCOPES)
