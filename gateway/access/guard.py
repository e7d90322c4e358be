"""Who is let in: the one place where a key or a token becomes a caller."""

import asyncio
import base64
import binascii
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway import instruments
from gateway.access.caller import NO_LIMITS, Caller
from gateway.access.keys import Keys
from gateway.access.table import Needs
from gateway.settings import GatewaySettings
from gateway.tenancy import one_of
from voicemesh.keyfile import PREFIX
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import (
    MeshError,
    PermissionDeniedError,
    TooManyCallsError,
    UnauthenticatedError,
)
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.metrics import Metrics

if TYPE_CHECKING:
    from gateway.access.jwks import Jwks
    from gateway.access.tokens import Tokens

_log = get_logger(__name__)
BAD_TOKENS_PER_S: Final = 500
"""Tokens that prove to be bad, of all callers: each costs a tenth of a millisecond. Tokens that were good
before, and keys, are taken all the same."""
TELL_S: Final = 10.0
"""Refusals are told of in the log no more often than this, however many there are."""
_RETRY_MS: Final = 1_000
_MISSING: Final = (
    "this needs a key or token: send it as `authorization: Bearer …` (`voicemesh keys new` makes a key)"
)
_NOT_ACCEPTED: Final = "the key or token is not accepted"
"""The same for every reason: who tries keys learns nothing of those that there are."""


class Access:
    """Lets callers in. Without a file of keys and without tokens it asks nobody for anything.

    Args:
        settings: Where keys and tokens are from.
        clock: Ages what is fetched, and refusals.
        metrics: Where refusals are counted.
        wall_s: Seconds since 1970: what expires is compared with it.

    Raises:
        SettingsError: Keys cannot be read.

    """

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        metrics: Metrics | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._keys = Keys(Path(settings.gateway_keys_file), wall_s) if settings.gateway_keys_file else None
        self._jwks: Jwks | None = None
        self._tokens: Tokens | None = None
        if settings.gateway_jwt_jwks:
            self._jwks, self._tokens = _tokens_of(settings, clock, wall_s)
        self.on: Final = self._keys is not None or self._tokens is not None
        self._clock = clock
        self._refused = (metrics or Metrics.off()).counter(instruments.ACCESS_REFUSALS)
        self._untold: Counter[str] = Counter()
        self._told_ns = -round(TELL_S * 1e9)
        self._bad_left = float(BAD_TOKENS_PER_S)
        self._bad_ns = clock.now_ns()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Follow keys from now on."""
        loop = asyncio.get_running_loop()
        if self._keys is not None:
            self._tasks.append(loop.create_task(self._keys.watch(), name="watch keys"))
        if self._jwks is not None:
            self._tasks.append(loop.create_task(self._jwks.watch(), name="watch keys of tokens"))

    async def close(self) -> None:
        """Follow nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._jwks is not None:
            await self._jwks.close()

    async def admit(
        self,
        needs: Needs,
        shown: Sequence[str | bytes],
        tenants: Iterable[str | bytes],
        field: str,
        *,
        password: bool = False,
    ) -> Caller | None:
        """Return who calls; None where nobody is asked, and where there is no access control.

        Args:
            needs: What it takes.
            shown: The values of `authorization`.
            tenants: The tenants that the call names, in `field`.
            field: Metadata or header.
            password: Take the key as the password of HTTP Basic, too: that is how a browser shows it.

        Raises:
            UnauthenticatedError: It shows nothing that is good.
            PermissionDeniedError: It may not do this, or not for that tenant.
            TooManyCallsError: Too many bad tokens came.
            InvalidFieldError: What it names is no tenant.

        """
        if not self.on or needs.nothing:
            return None
        try:
            caller = await self._known(shown, password=password)
            caller = _for_tenant(caller, one_of(tenants, field), field)
            _check(caller, needs)
            return caller
        except (UnauthenticatedError, PermissionDeniedError, TooManyCallsError) as error:
            self._note(error)
            raise

    async def _known(self, shown: Sequence[str | bytes], *, password: bool) -> Caller:
        if not shown:
            raise UnauthenticatedError(_MISSING)
        credential = _credential(shown[0], password=password) if len(shown) == 1 else ""
        caller: Caller | None = None
        if credential.startswith(f"{PREFIX}_"):
            caller = self._keys.caller(credential) if self._keys is not None else None
        elif credential and self._tokens is not None:
            caller = await self._of_token(credential, self._tokens)
        if caller is None:
            raise UnauthenticatedError(_NOT_ACCEPTED)
        return caller

    async def _of_token(self, token: str, tokens: "Tokens") -> Caller | None:
        if (caller := tokens.known(token)) is not None:
            return caller
        if not self._may_be_bad():
            raise TooManyCallsError(
                "too many tokens were not accepted lately; try again in a moment", retry_after_ms=_RETRY_MS
            )
        from gateway.access.tokens import BadTokenError, UnknownKeyError  # noqa: PLC0415 - loaded by now

        try:
            try:
                return tokens.read(token)
            except UnknownKeyError:
                assert self._jwks is not None
                await self._jwks.unknown()
                return tokens.read(token)
        except (UnknownKeyError, BadTokenError) as error:
            self._bad_left -= 1
            _log.debug("token is not accepted", reason=str(error) or "unknown key")
            return None

    def _may_be_bad(self) -> bool:
        now_ns = self._clock.now_ns()
        gained = (now_ns - self._bad_ns) / 1e9 * BAD_TOKENS_PER_S
        self._bad_left, self._bad_ns = min(float(BAD_TOKENS_PER_S), self._bad_left + gained), now_ns
        return self._bad_left >= 1

    def _note(self, error: MeshError) -> None:
        """Count a refusal; tell of it, and of those before it, if nothing was told lately."""
        self._refused.add(1, {"error.type": error.reason})
        self._untold[error.reason] += 1
        now_ns = self._clock.now_ns()
        if now_ns - self._told_ns >= TELL_S * 1e9:
            self._told_ns = now_ns
            _log.warning("callers were refused", **{k.lower(): n for k, n in self._untold.items()})
            self._untold.clear()


def _credential(shown: str | bytes, *, password: bool) -> str:
    """Return what is behind `Bearer`, or the password of `Basic`; "" for anything else."""
    text = shown if isinstance(shown, str) else shown.decode("latin-1")
    kind, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    if kind.lower() == "bearer":
        return rest
    if password and kind.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def _check(caller: Caller, needs: Needs) -> None:
    if not any(caller.may(scope) for scope in needs.scopes):
        wanted = " or ".join(f"`{scope}`" for scope in needs.scopes)
        raise PermissionDeniedError(f"this needs the scope {wanted}, which the key or token has not")


def _for_tenant(caller: Caller, named: str, field: str) -> Caller:
    """Return the caller as that of the tenant which its call names.

    Raises:
        PermissionDeniedError: Its key is another tenant's.

    """
    if named in ("", caller.tenant):
        return caller
    if caller.may("tenant:any"):
        return replace(caller, tenant=named, limits=NO_LIMITS, behind=caller.limits)
    raise PermissionDeniedError(
        f"{field}: the key or token is not that tenant's, and has not the scope `tenant:any`", field=field
    )


def _tokens_of(settings: GatewaySettings, clock: Clock, wall_s: Callable[[], float]) -> "tuple[Jwks, Tokens]":
    # A fifth of a second at the start of gateways, few of which take tokens.
    from gateway.access.jwks import Jwks  # noqa: PLC0415 - above
    from gateway.access.tokens import Rules, Tokens  # noqa: PLC0415 - above

    jwks = Jwks(settings.gateway_jwt_jwks, settings.gateway_jwt_refresh_s, clock)
    rules = Rules(
        issuer=settings.gateway_jwt_issuer,
        audience=settings.gateway_jwt_audience,
        algorithms=settings.gateway_jwt_algorithms,
        leeway_s=settings.gateway_jwt_leeway_s,
        tenant_claim=settings.gateway_jwt_tenant_claim,
        scope_claim=settings.gateway_jwt_scope_claim,
    )
    return jwks, Tokens(rules, jwks, wall_s)
