"""The options of a voice, each taken once, with what it may be.

Workers import this module: standard library only.
"""

import math
from collections.abc import Sequence
from typing import Any

from services.tts.engines.base import OptionsError
from voicemesh.runtime.nearest import did_you_mean


class Options:
    """The `options` of a declaration. `finish` refuses those that nobody took."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._known: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """Return a text.

        Raises:
            OptionsError: It is none.

        """
        value = self._take(name, default)
        if not isinstance(value, str):
            raise OptionsError(f"option {name}: must be a text, not {value!r}")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; one text stands for a list of it, and nothing for an empty one.

        Raises:
            OptionsError: It is none.

        """
        value = self._take(name, [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise OptionsError(f"option {name}: must be a text or a list of texts, not {value!r}")
        return list(texts)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of `choices`; the first where the option is absent.

        Raises:
            OptionsError: It is none of them.

        """
        value = self._take(name, choices[0])
        if value not in choices:
            raise OptionsError(f"option {name}: must be one of {', '.join(choices)}, not {value!r}")
        return str(value)

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """Return a whole number.

        Raises:
            OptionsError: It is none, or out of bounds.

        """
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise OptionsError(f"option {name}: must be a whole number from {least} to {most}, not {value!r}")
        return value

    def number(self, name: str, least: float, most: float, default: float) -> float:
        """Return a number.

        Raises:
            OptionsError: It is none, or out of bounds.

        """
        value = self._take(name, default)
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not right or not least <= value <= most:
            raise OptionsError(f"option {name}: must be a number from {least:g} to {most:g}, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false.

        Raises:
            OptionsError: It is neither.

        """
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise OptionsError(f"option {name}: must be true or false, not {value!r}")
        return value

    def finish(self, engine: str) -> None:
        """End the taking: an option that was not asked for is a mistake.

        Raises:
            OptionsError: There is one.

        """
        if unknown := sorted(self._options.keys() - set(self._known)):
            known = ", ".join(sorted(self._known))
            near = did_you_mean(unknown[0], self._known)
            raise OptionsError(f"option {unknown[0]}: {engine} has the options {known}{near}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        return self._options.get(name, default)
