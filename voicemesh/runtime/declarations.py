"""What is wrong in a list of declarations, by the name of the one at fault."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from voicemesh.runtime.nearest import did_you_mean

_FOLLOWS: Final = "too_short"


def explain(error: ValidationError, declared: object, declaration: type[BaseModel], what: str) -> str:
    """Return the problems in one line.

    Args:
        error: What pydantic found.
        declared: The list, as it was read.
        declaration: What each of them should have been.
        what: What each of them declares, for people: "voice".

    """
    problems = error.errors(include_url=False, include_input=False)
    # A list without its wrong members is too short as well: that is no news.
    own = [problem for problem in problems if problem["type"] != _FOLLOWS or problem["loc"]]
    return "; ".join(_line(problem, declared, declaration, what) for problem in own or problems)


def _line(problem: Any, declared: object, declaration: type[BaseModel], what: str) -> str:
    location = list(problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(declaration, location[1:-1])
        message = f"there is no such field{did_you_mean(str(location[-1]), fields)}"
    if not location:
        return message
    return ": ".join(
        filter(None, (_name(location[0], declared, what), ".".join(map(str, location[1:])), message))
    )


def _fields_at(model: type[BaseModel], location: Sequence[object]) -> Sequence[str]:
    """Return the fields of what `location` leads to."""
    for part in location:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return tuple(model.model_fields)


def _name(place: object, declared: object, what: str) -> str:
    """Return what the member at `place` is called; its number, from 1, where it has no name."""
    if not isinstance(place, int):
        return str(place)
    member = declared[place] if isinstance(declared, Sequence) and place < len(declared) else None
    name = member.get("name") if isinstance(member, Mapping) else None
    return f"{what} {name!r}" if isinstance(name, str) else f"{what} number {place + 1}"
