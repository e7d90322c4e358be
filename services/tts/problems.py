"""What is wrong in a list of declarations, by the voice's name."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from services.tts.nearest import did_you_mean

_FOLLOWS: Final = "too_short"


def explain(error: ValidationError, voices: object, declaration: type[BaseModel]) -> str:
    """Return the problems in one line.

    Args:
        error: What pydantic found.
        voices: What was declared, as it was read.
        declaration: What each of them should have been.

    """
    problems = error.errors(include_url=False, include_input=False)
    # A list without its wrong members is too short as well: that is no news.
    own = [problem for problem in problems if problem["type"] != _FOLLOWS or problem["loc"]]
    return "; ".join(_line(problem, voices, declaration) for problem in own or problems)


def _line(problem: Any, voices: object, declaration: type[BaseModel]) -> str:
    location = list(problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(declaration, location[1:-1])
        message = f"there is no such field{did_you_mean(str(location[-1]), fields)}"
    if not location:
        return message
    return ": ".join(filter(None, (_name(location[0], voices), ".".join(map(str, location[1:])), message)))


def _fields_at(model: type[BaseModel], location: Sequence[object]) -> Sequence[str]:
    """Return the fields of what `location` leads to."""
    for part in location:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return tuple(model.model_fields)


def _name(place: object, voices: object) -> str:
    """Return what the voice at `place` is called; its number, from 1, where it has no name."""
    if not isinstance(place, int):
        return str(place)
    voice = voices[place] if isinstance(voices, Sequence) and place < len(voices) else None
    name = voice.get("name") if isinstance(voice, Mapping) else None
    return f"voice {name!r}" if isinstance(name, str) else f"voice number {place + 1}"
