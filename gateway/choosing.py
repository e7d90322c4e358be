"""How the next turn is made: what its caller asked for, and what flags say where it did not.

What a caller asked for itself stays, unless the flag's metadata say `"override": true`. A value is checked
as a caller's own would be; one that cannot be used is as if the flag were not there.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Final

from gateway import prompts
from gateway.flags import Evaluation, Flags
from gateway.options import SpeechChoice, TextChoice, speech_choice, text_choice
from gateway.peers import Peers
from gateway.settings import GatewaySettings
from voicemesh.client.options import parse_policy
from voicemesh.flags import definitions
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import InvalidFieldError, MeshError

_SPEECH: Final = (definitions.CHUNK_POLICY, definitions.VOICE)
_ALL: Final = (definitions.PROMPT, definitions.MODEL, *_SPEECH)
_RESERVED: Final = ("tenant", "voice", "language", "session", "turn", "targetingKey")
"""Names of attributes that are not the caller's to say."""
_MAX_ATTRIBUTES: Final = 16
_MAX_NAME_CHARS: Final = 64
_MAX_VALUE_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """How a turn is made.

    Attributes:
        text: How its reply is.
        speech: How it is spoken.
        flags: The flags that had a say in it.

    """

    text: TextChoice
    speech: SpeechChoice
    flags: tuple[Evaluation, ...] = ()


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Check what a caller says of itself.

    Raises:
        InvalidFieldError: There are too many, one is too long, or has a name of the gateway's.

    """
    field = "configure.attributes"
    if len(attributes) > _MAX_ATTRIBUTES:
        raise InvalidFieldError(field, f"has {len(attributes)} names; at most {_MAX_ATTRIBUTES} are taken")
    for name, value in attributes.items():
        if not 1 <= len(name) <= _MAX_NAME_CHARS:
            raise InvalidFieldError(field, f"a name must have 1 to {_MAX_NAME_CHARS} characters")
        if name in _RESERVED or name.startswith("$"):
            raise InvalidFieldError(f"{field}.{name}", "is the gateway's to say; take another name")
        if len(value) > _MAX_VALUE_CHARS:
            raise InvalidFieldError(
                f"{field}.{name}", f"has {len(value)} characters; at most {_MAX_VALUE_CHARS} are taken"
            )


class Choosing:
    """Chooses for one caller after another.

    Args:
        settings: Limits and defaults.
        peers: What can speak.
        flags: What they say.

    """

    def __init__(self, settings: GatewaySettings, peers: Peers, flags: Flags) -> None:
        self._settings = settings
        self._peers = peers
        self._flags = flags

    def plain(self, configure: pb.Configure, field: str) -> Choice:
        """Return what the caller asked for, without flags; `field` is the path of `configure.speech`.

        Raises:
            InvalidFieldError: A field is malformed or over its limit.
            UnknownVoiceError: There is no such voice.
            ServiceUnavailableError: It is not known yet what can speak.

        """
        return Choice(
            text_choice(configure, self._settings),
            speech_choice(configure.speech, self._peers, self._settings, field),
        )

    async def choose(
        self, configure: pb.Configure, *, tenant: str, sticky: str, words: bool, field: str
    ) -> Choice:
        """Return how a turn is made. Raises what `plain` does, and nothing that a flag is to blame for.

        Args:
            configure: What the caller asked for.
            tenant: Whose turn it is.
            sticky: Who is to be given the same each time: the session.
            words: True for a turn of the caller's own words, which no model writes.
            field: The path of `configure.speech`.

        """
        plain = self.plain(configure, field)
        if self._flags.silent:
            return plain
        attributes = {
            **configure.attributes,
            "tenant": tenant,
            "voice": plain.speech.voice.name,
            "language": plain.speech.voice.language,
            "session": sticky,
            "turn": "text" if words else "prompt",
        }
        evaluations = await self._flags.evaluate(_SPEECH if words else _ALL, sticky, attributes)
        if not evaluations:
            return plain
        return self._with(configure, plain, evaluations, field)

    def _with(
        self, configure: pb.Configure, plain: Choice, evaluations: tuple[Evaluation, ...], field: str
    ) -> Choice:
        chosen, used = plain, []
        asked = pb.Configure()
        asked.CopyFrom(configure)
        for evaluation in evaluations:
            if _is_asked_for(configure, evaluation.key) and not evaluation.override:
                continue
            if evaluation.value:
                wanted = pb.Configure()
                wanted.CopyFrom(asked)
                _set(wanted, evaluation, (prompts.AUTO, *self._settings.system_prompts))
                try:
                    chosen = self.plain(wanted, field)
                except MeshError as error:
                    self._flags.complain(evaluation.key, evaluation.variant, error.message)
                    continue
                asked = wanted
            used.append(evaluation)
        return Choice(chosen.text, chosen.speech, tuple(used))


def _is_asked_for(configure: pb.Configure, key: str) -> bool:
    match key:
        case definitions.PROMPT:
            return bool(configure.system_prompt or configure.system_prompt_variant)
        case definitions.MODEL:
            return bool(configure.model)
        case definitions.VOICE:
            return bool(configure.speech.voice)
        case _:
            return bool(configure.speech.chunk_policy.kind)


def _set(configure: pb.Configure, evaluation: Evaluation, prompt_names: Container[str]) -> None:
    """Ask for what a flag says, as its caller could have."""
    value = evaluation.value
    match evaluation.key:
        case definitions.PROMPT:
            named = value in prompt_names
            configure.system_prompt_variant = value if named else ""
            configure.system_prompt = "" if named else value
        case definitions.MODEL:
            configure.model = value
        case definitions.VOICE:
            configure.speech.voice = value
        case _:
            policy = parse_policy(value)
            configure.speech.chunk_policy.kind = policy.kind
            configure.speech.chunk_policy.words = policy.words
