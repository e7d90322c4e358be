"""Text that can always be sent: no halves of characters."""


class SurrogateJoiner:
    r"""Joins characters whose two UTF-16 halves came in two pieces.

    Some servers cut an emoji in two: JSON `"\ud83d"`, then `"\ude00"`. Neither half can be sent in
    protobuf. A first half is held until its second comes; a half that stays alone becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._held = ""

    def join(self, text: str, *, is_last: bool = False) -> str:
        """Return what can be sent of `text`; "" if all of it is held."""
        text = self._held + text
        self._held = ""
        if text and "\ud800" <= text[-1] <= "\udbff" and not is_last:
            self._held = text[-1]
            text = text[:-1]
        if text.isascii():
            return text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
