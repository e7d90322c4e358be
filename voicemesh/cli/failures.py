"""What to do about failures that the mesh reports."""

from typing import Final

from voicemesh.cli.exits import FAILED, UNREACHABLE, Failure
from voicemesh.client import VoiceMeshError

_LATER: Final = "try again in a moment"
_HINTS: Final = {
    "UNKNOWN_VOICE": "`voicemesh voices` lists those that are",
    "LLM_KEY_REFUSED": "set OPENAI_API_KEY where the mesh runs; without a key it answers as a rehearsal",
    "LLM_UNAVAILABLE": "is the model's server running, and its address right (OPENAI_BASE_URL, or base_url "
    "in VOICEMESH_LLM_PROVIDERS)?",
    "LLM_RATE_LIMITED": "try again later",
    "NO_ENGINE": "`voicemesh doctor` says which voices are warm",
    "UNKNOWN_TURN": "turns are found by tenant (--tenant), and remembered for a while, by the gateway that "
    "spoke them",
    "UNAUTHENTICATED": "set VOICEMESH_API_KEY, or name a file: voicemesh --api-key-file FILE …",
    "PERMISSION_DENIED": "`voicemesh keys list` says what each key may do",
    "TOO_MANY_CALLS": _LATER,
    "TOO_MANY_TURNS": _LATER,
    "OVERLOADED": _LATER,
    "RATE_LIMITED": "limits are those of the key, or of VOICEMESH_GATEWAY_LIMITS: docs/overload.md",
    "QUEUE_FULL": _LATER,
}


TLS_HINT: Final = (
    "--tls-ca FILE names the authority, --tls believes public ones, and --tls-cert and --tls-key show a "
    "certificate of yours, --tls-server-name NAME is the name in theirs where that is not the address; who "
    "speaks plain text wants none of these, nor VOICEMESH_CLIENT_TLS and its like; docs/tls.md"
)
"""What to do where the two sides do not agree about TLS."""


def hint_for(reason: str) -> str:
    """Return what to do about failures with a reason; "" where there is nothing to say."""
    return _HINTS.get(reason, "")


def failure_of(error: VoiceMeshError, addr: str) -> Failure:
    """Return the end of a command that failed with `error`."""
    if error.tls:
        return Failure(UNREACHABLE, error.reason, error.message, TLS_HINT)
    if not error.reached:
        hint = f"is `voicemesh up` running? (looked at {addr}; --addr or VOICEMESH_ADDR name another)"
        return Failure(UNREACHABLE, error.reason, error.message, hint)
    hint = hint_for(error.reason)
    if error.retry_after_ms:
        more = f"; {hint}" if hint and hint != _LATER else ""
        hint = f"try again in {error.retry_after_ms / 1000:g} s{more}"
    return Failure(FAILED, error.reason, error.message, hint)
