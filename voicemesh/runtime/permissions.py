"""Who may call what inside the mesh: one table, as data.

    gateway ──┬── llm       operator ──┬── tts: batches, voices, figures
              ├── chunker              └── cache: figures, removal
              ├── tts
              └── cache     health: everyone

What is not in the table is refused. The interceptor in `voicemesh.runtime.identities` holds calls to it, and
tests compare it with the contract and with the edges of traces.
"""

from dataclasses import dataclass
from typing import Final

GATEWAY: Final = "gateway"
LLM: Final = "llm"
CHUNKER: Final = "chunker"
TTS: Final = "tts"
CACHE: Final = "cache"
OPERATOR: Final = "operator"
"""A person, or a job, that looks after the mesh: the command line."""
ROLES: Final = (GATEWAY, LLM, CHUNKER, TTS, CACHE, OPERATOR)
"""All that an identity can stand for."""

GENERATE: Final = "voicemesh.llm.v1.LlmService/Generate"
CHUNK: Final = "voicemesh.chunker.v1.ChunkerService/Chunk"
SYNTHESIZE: Final = "voicemesh.tts.v1.TtsService/Synthesize"
SYNTHESIZE_BATCH: Final = "voicemesh.tts.v1.TtsService/SynthesizeBatch"
LIST_VOICES: Final = "voicemesh.tts.v1.TtsService/ListVoices"
POOL_STATS: Final = "voicemesh.tts.v1.TtsService/GetPoolStats"
EXCHANGE: Final = "voicemesh.cache.v1.CacheService/Exchange"
CACHE_STATS: Final = "voicemesh.cache.v1.CacheService/GetStats"
INVALIDATE: Final = "voicemesh.cache.v1.CacheService/Invalidate"
HEALTH: Final = "grpc.health.v1.Health/"
REFLECTION: Final = "grpc.reflection."

PLACEHOLDER: Final = "{service}"
"""Where the role stands in an identity, as a setting has it."""


@dataclass(frozen=True)
class Permission:
    """What one role may call of one service.

    Attributes:
        caller: The role that calls.
        service: The service that is called, by its short name.
        methods: Fully qualified names of its methods, without the leading slash.

    """

    caller: str
    service: str
    methods: tuple[str, ...]


PERMISSIONS: Final = (
    Permission(GATEWAY, LLM, (GENERATE,)),
    Permission(GATEWAY, CHUNKER, (CHUNK,)),
    Permission(GATEWAY, TTS, (SYNTHESIZE, LIST_VOICES, POOL_STATS)),
    Permission(GATEWAY, CACHE, (EXCHANGE, CACHE_STATS)),
    Permission(OPERATOR, TTS, (SYNTHESIZE_BATCH, LIST_VOICES, POOL_STATS)),
    Permission(OPERATOR, CACHE, (CACHE_STATS, INVALIDATE)),
)

_CALLERS: Final[dict[str, tuple[str, ...]]] = {
    method: tuple(each.caller for each in PERMISSIONS if method in each.methods)
    for permission in PERMISSIONS
    for method in permission.methods
}


def callers_of(method: str) -> tuple[str, ...]:
    """Return the roles that may call a method, by its fully qualified name without the leading slash."""
    if method.startswith(HEALTH):
        return ROLES
    if method.startswith(REFLECTION):
        return (OPERATOR,)
    return _CALLERS.get(method, ())


class Identities:
    """Which role a certificate stands for.

    Args:
        template: A URI or a DNS name with `{service}` where the role stands, as in
            "spiffe://cluster.local/voicemesh/{service}".

    """

    def __init__(self, template: str) -> None:
        self._roles = {template.replace(PLACEHOLDER, role): role for role in ROLES}

    def role(self, names: tuple[str, ...]) -> str:
        """Return the role that the names of a certificate stand for; "" for none, and for more than one."""
        roles = {self._roles[name] for name in names if name in self._roles}
        return roles.pop() if len(roles) == 1 else ""
