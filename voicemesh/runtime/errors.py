"""The one exception tree of the mesh.

Cores raise these; `voicemesh.runtime.status` has the one table that turns them into gRPC statuses.
`reason` is the name of a `voicemesh.common.v1.ErrorReason` without its prefix.
"""


class MeshError(Exception):
    """Base of every failure that a caller may see.

    The text is written for the caller: it says what is wrong, which limit, and what to do. It never
    holds a secret.

    Attributes:
        reason: Why, for programs. One for each class, but for failures passed on from elsewhere.
        retry_after_ms: When trying again makes sense, in milliseconds; None where it does not.
        field: The request field at fault, as a path in the message, or "".
        retried_by: Name of the process that tried again already and gave up, or "": nobody above it does.
        limit: The limit that was reached, where its reason has several, or "".

    """

    reason: str = "INTERNAL"
    retried_by: str = ""

    def __init__(
        self, message: str, *, field: str = "", limit: str = "", retry_after_ms: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.limit = limit
        self.retry_after_ms = retry_after_ms


class InvalidFieldError(MeshError):
    """A field is missing, malformed or over its limit."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", field=field)


class OutOfOrderError(MeshError):
    """A message came where the stream's order does not allow it."""

    reason = "OUT_OF_ORDER"


class UnknownVoiceError(MeshError):
    """No such voice."""

    reason = "UNKNOWN_VOICE"


class UnknownModelError(MeshError):
    """The LLM provider knows no such model."""

    reason = "UNKNOWN_MODEL"


class LlmKeyRefusedError(MeshError):
    """The LLM provider refused the mesh's key."""

    reason = "LLM_KEY_REFUSED"


class LlmRequestRefusedError(MeshError):
    """The LLM provider refused the request itself."""

    reason = "LLM_REQUEST_REFUSED"


class LlmUnavailableError(MeshError):
    """The LLM provider cannot be reached, or failed before its first token."""

    reason = "LLM_UNAVAILABLE"


class LlmRateLimitedError(MeshError):
    """The LLM provider's rate limit was hit."""

    reason = "LLM_RATE_LIMITED"


class LlmStreamBrokenError(MeshError):
    """The LLM's stream broke after text had been sent."""

    reason = "LLM_STREAM_BROKEN"


class NoEngineError(MeshError):
    """No engine could speak the text."""

    reason = "NO_ENGINE"


class VoiceNotReadyError(MeshError):
    """The voice is declared and still being loaded."""

    reason = "VOICE_NOT_READY"


class ServiceUnavailableError(MeshError):
    """A service of the mesh cannot be reached."""

    reason = "SERVICE_UNAVAILABLE"


class TooManyTurnsError(MeshError):
    """Every place for a turn is taken."""

    reason = "TOO_MANY_TURNS"


class OverloadedError(MeshError):
    """The mesh can take no more turns now, or no more of this tenant's."""

    reason = "OVERLOADED"


class RateLimitedError(MeshError):
    """The caller's key has no more for now."""

    reason = "RATE_LIMITED"


class QueueFullError(MeshError):
    """The queue for a voice is full."""

    reason = "QUEUE_FULL"


class SlowReceiverError(MeshError):
    """The receiver does not read what it asked for."""

    reason = "SLOW_RECEIVER"


class DrainingError(MeshError):
    """The process is shutting down."""

    reason = "DRAINING"


class DeadlineError(MeshError):
    """The deadline passed."""

    reason = "DEADLINE_EXCEEDED"


class UnknownTurnError(MeshError):
    """No such turn is remembered here."""

    reason = "UNKNOWN_TURN"


class UnauthenticatedError(MeshError):
    """Nobody knows who calls. The text is the same whatever is wrong with what was shown."""

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(MeshError):
    """The caller is known, and may not do this."""

    reason = "PERMISSION_DENIED"


class TooManyCallsError(MeshError):
    """Too many streams are open, or too many tokens were bad."""

    reason = "TOO_MANY_CALLS"


class SettingsError(Exception):
    """A setting is wrong; the text names the environment variable and what it may be."""
