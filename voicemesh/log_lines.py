"""What people are shown of a log line: whoever reads JSON gets all of it."""

from collections.abc import Mapping
from typing import Any, Final

_REFUSED: Final = "turn refused"
_SAYS_NOTHING: Final[tuple[object, ...]] = (0, "", "off", None, [], {})


def for_people(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `line` for a terminal: of a turn that was refused without the figures that are all zero."""
    if line.get("event") != _REFUSED:
        return line
    return {name: value for name, value in line.items() if value not in _SAYS_NOTHING}
