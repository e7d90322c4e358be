"""Who connects to whom, inside the mesh and beyond it: one table, as data.

    callers ──> gateway ──┬── llm ──> provider         prometheus, kubelet ──> every process
                 │        ├── chunker                  every process ──> dns, collector
                 │        ├── tts ──> speech server    collector ──> sampler ──> tempo <── grafana
                 │        └── cache ──> redis          operator ──> gateway, tts, cache
              issuer            └────> embeddings

What is called inside the mesh is in `voicemesh.runtime.permissions`; the edges of it are taken from there.
Network policies are made of this table (`tools/gen_network_policies.py`), the interceptor holds calls to the
permissions, and tests compare both with where the traces of turns go. A connection that is not here is none
that the mesh makes.
"""

from dataclasses import dataclass
from typing import Final

from voicemesh.runtime.permissions import CACHE, CHUNKER, GATEWAY, LLM, OPERATOR, PERMISSIONS, TTS

SERVICES: Final = (GATEWAY, LLM, CHUNKER, TTS, CACHE)
"""The processes of the mesh."""

CALLER: Final = "caller"
"""Who asks for turns."""
REDIS: Final = "redis"
PROVIDER: Final = "provider"
"""Who answers prompts for the LLM service, over HTTPS."""
SPEECH_SERVER: Final = "speech-server"
"""Who speaks for voices of the engine `openai`, over HTTPS."""
EMBEDDINGS: Final = "embeddings"
"""Who makes vectors for similar prompts, over HTTPS."""
ISSUER: Final = "issuer"
"""Who publishes the keys that tokens are signed with, over HTTPS."""
COLLECTOR: Final = "collector"
"""Who takes traces and metrics, over OTLP."""
SAMPLER: Final = "sampler"
"""Who has all spans of a trace, and keeps what is worth it."""
TEMPO: Final = "tempo"
"""Who keeps traces."""
GRAFANA: Final = "grafana"
"""Who shows them."""
DNS: Final = "dns"
PROMETHEUS: Final = "prometheus"
KUBELET: Final = "kubelet"
"""Who probes the pods of its own machine. No network policy holds it up."""

ON_THE_INTERNET: Final = (PROVIDER, SPEECH_SERVER, EMBEDDINGS, ISSUER)
"""What can be anywhere, and is reached over HTTPS alone."""

LISTENS: Final[dict[str, int]] = {GATEWAY: 50050, LLM: 50051, CHUNKER: 50052, TTS: 50053, CACHE: 50054}
"""Where each process takes calls, by its defaults."""
HTTP_PORT: Final = 8080
METRICS_PORT: Final = 9464
HEALTH_PORT: Final = 50060
"""Where manifests have processes tell Prometheus, and kubelet, how they are."""
REDIS_PORT: Final = 6379
OTLP_PORT: Final = 4317
COLLECTOR_METRICS_PORT: Final = 8888
TEMPO_HTTP_PORT: Final = 3200
DNS_PORT: Final = 53
HTTPS_PORT: Final = 443


@dataclass(frozen=True)
class Edge:
    """That one may connect to another.

    Attributes:
        caller: Who connects: a service, the operator, or somebody outside.
        callee: Whom it connects to.
        ports: At which ports.
        why: What for, in a few words.
        protocols: "TCP", "UDP".
        in_turns: Whether traces of turns have a span of their own for it.

    """

    caller: str
    callee: str
    ports: tuple[int, ...]
    why: str
    protocols: tuple[str, ...] = ("TCP",)
    in_turns: bool = False


def _inside() -> tuple[Edge, ...]:
    return tuple(
        Edge(
            each.caller,
            each.service,
            (LISTENS[each.service],),
            ", ".join(method.rpartition("/")[2] for method in each.methods),
            in_turns=each.caller == GATEWAY,
        )
        for each in PERMISSIONS
    )


EDGES: Final = (
    Edge(CALLER, GATEWAY, (LISTENS[GATEWAY], HTTP_PORT), "turns, over gRPC and HTTP"),
    Edge(OPERATOR, GATEWAY, (LISTENS[GATEWAY], HTTP_PORT), "reports and usage"),
    *_inside(),
    Edge(CACHE, REDIS, (REDIS_PORT,), "what all cache services share", in_turns=True),
    Edge(LLM, PROVIDER, (HTTPS_PORT,), "replies", in_turns=True),
    Edge(TTS, SPEECH_SERVER, (HTTPS_PORT,), "speech, for voices of the engine `openai`"),
    Edge(CACHE, EMBEDDINGS, (HTTPS_PORT,), "vectors, with VOICEMESH_CACHE_SIMILAR", in_turns=True),
    Edge(GATEWAY, ISSUER, (HTTPS_PORT,), "public keys of tokens, with VOICEMESH_GATEWAY_JWT_JWKS"),
    *(Edge(each, COLLECTOR, (OTLP_PORT,), "traces and metrics") for each in SERVICES),
    Edge(COLLECTOR, SAMPLER, (OTLP_PORT,), "all spans of a trace to one"),
    Edge(SAMPLER, TEMPO, (OTLP_PORT,), "what is kept of them"),
    Edge(GRAFANA, TEMPO, (TEMPO_HTTP_PORT,), "traces to look at"),
    *(
        Edge(each, DNS, (DNS_PORT,), "names", ("UDP", "TCP"))
        for each in (*SERVICES, OPERATOR, COLLECTOR, SAMPLER)
    ),
    *(Edge(PROMETHEUS, each, (METRICS_PORT,), "metrics") for each in SERVICES),
    *(Edge(PROMETHEUS, each, (COLLECTOR_METRICS_PORT,), "metrics") for each in (COLLECTOR, SAMPLER)),
    Edge(PROMETHEUS, TEMPO, (TEMPO_HTTP_PORT,), "metrics"),
    *(Edge(KUBELET, each, (HEALTH_PORT,), "probes") for each in SERVICES),
)


def edges_from(caller: str) -> tuple[Edge, ...]:
    """Return the edges that lead away from somebody."""
    return tuple(edge for edge in EDGES if edge.caller == caller)


def edges_to(callee: str) -> tuple[Edge, ...]:
    """Return the edges that lead to somebody."""
    return tuple(edge for edge in EDGES if edge.callee == callee)
