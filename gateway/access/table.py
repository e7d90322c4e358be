"""What a caller must be allowed for each thing that answers at the edges.

Nothing answers without a line here: a test walks every method and every route.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Needs:
    """What it takes. With several scopes, any of them will do."""

    scopes: tuple[str, ...] = ()
    """None: nobody is asked who they are."""

    @property
    def nothing(self) -> bool:
        """Whether everybody may."""
        return not self.scopes


OPEN: Final = Needs()
"""Load balancers and supervisors have no keys, and are told no more than whether turns can be taken."""
_GATEWAY: Final = "/voicemesh.gateway.v1.GatewayService"
_HEALTH: Final = "/grpc.health.v1.Health"
_VOICES: Final = Needs(("speak", "converse", "batch", "operator"))
_LIVE: Final = Needs(("operator",))

METHODS: Final = {
    f"{_GATEWAY}/Converse": Needs(("converse",)),
    f"{_GATEWAY}/Speak": Needs(("speak",)),
    f"{_GATEWAY}/SpeakBatch": Needs(("batch",)),
    f"{_GATEWAY}/ListVoices": _VOICES,
    f"{_GATEWAY}/ExplainTurn": Needs(("explain", "operator")),
    f"{_GATEWAY}/ListTurns": Needs(("explain", "operator")),
    f"{_GATEWAY}/GetUsage": Needs(("usage", "operator")),
    f"{_HEALTH}/Check": OPEN,
    f"{_HEALTH}/List": OPEN,
    f"{_HEALTH}/Watch": OPEN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Needs(("reflect", "operator")),
}
"""gRPC methods. `all_tenants` of a request needs `operator` beside that (gateway/tenancy.py)."""

ROUTES: Final = {
    "GET /": OPEN,
    "GET /healthz": OPEN,
    "POST /v1/audio/speech": Needs(("speak",)),
    "GET /v1/voices": _VOICES,
    "GET /metrics": Needs(("metrics", "operator")),
    "GET /live": _LIVE,
    "GET /live/files/{name}": _LIVE,
    **{f"GET /live/api/{name}": _LIVE for name in ("turns", "turn", "audio", "series", "state", "events")},
}
"""Method and path of HTTP."""
