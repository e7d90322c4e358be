"""Which parameters a server's models take: known for some, learned from what they refuse.

OpenAI's models that reason take `max_completion_tokens` alone, and no temperature; other servers may know the
older `max_tokens` alone. A refusal that names the parameter is answered by asking once more without it, or
with the other name, and remembered: the model's next turn is asked rightly at once.
"""

import re
from collections import OrderedDict
from typing import Any, Final

_OTHER_NAME: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_OPTIONAL: Final = frozenset(
    {*_OTHER_NAME, "temperature", "top_p", "seed", "stop", "stream_options", "prompt_cache_key"}
)
"""What a reply can be made without."""
_REASONS: Final = re.compile(r"o\d|gpt-5(?!.*chat)")
"""Models of OpenAI that reason, by the beginning of their names."""
_SAMPLING: Final = ("temperature", "top_p")
_REFUSAL: Final = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|not supported|not support|not permitted|not allowed",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"['\"`]([a-z_]+)['\"`]")
_MODELS: Final = 256


class Dialect:
    """What is known of one server. `is_openai`: it is OpenAI's own."""

    def __init__(self, *, is_openai: bool) -> None:
        self._is_openai = is_openai
        self._refused: OrderedDict[str, frozenset[str]] = OrderedDict()

    def body(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return a request as its model takes it; in `asked` the longest reply is `max_tokens`."""
        model = str(asked["model"])
        refused = self._refused.get(model, frozenset())
        body = dict(asked)
        tokens = body.pop("max_tokens")
        usual = "max_completion_tokens" if self._is_openai else "max_tokens"
        name = next((name for name in (usual, _OTHER_NAME[usual]) if name not in refused), None)
        if name is not None:
            body[name] = tokens
        if self._is_openai and _REASONS.match(model):
            refused |= frozenset(_SAMPLING)
        return {name: value for name, value in body.items() if name not in refused}

    def learn(self, model: str, sent: dict[str, Any], param: str, message: str) -> bool:
        """Take a refusal of `sent`; return whether the request can be made otherwise.

        Args:
            model: Who refused.
            sent: What.
            param: The parameter that the error names; "" where it names none.
            message: The error's text.

        """
        named = [param, *_QUOTED.findall(message)]
        name = next((name for name in named if name in _OPTIONAL and name in sent), None)
        if name is None or not _REFUSAL.search(message):
            return False
        self._refused[model] = self._refused.get(model, frozenset()) | {name}
        self._refused.move_to_end(model)
        if len(self._refused) > _MODELS:
            self._refused.popitem(last=False)
        return True
