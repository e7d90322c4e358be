"""Pictures in prompts: checked where they come in, so that no provider has to say what is wrong with them."""

from collections.abc import Sequence
from typing import Final

from gateway.core.values import Image
from voicemesh.pictures import MEDIA_TYPES, media_type_of
from voicemesh.runtime.errors import InvalidFieldError

_ADDRESSES: Final = ("https://", *(f"data:{kind};base64," for kind in MEDIA_TYPES))


def check_pictures(parts: Sequence[str | Image], most: int, most_bytes: int) -> None:
    """Refuse pictures of a prompt that are too many, too large, or none.

    Raises:
        InvalidFieldError: Names the part.

    """
    pictures = [(number, part) for number, part in enumerate(parts) if isinstance(part, Image)]
    if len(pictures) > most:
        raise InvalidFieldError(
            "prompt.parts",
            f"has {len(pictures)} pictures; at most {most} are taken (VOICEMESH_GATEWAY_MAX_IMAGES)",
        )
    total = sum(len(picture.data) or len(picture.url) for _, picture in pictures)
    if total > most_bytes:
        raise InvalidFieldError(
            "prompt.parts.image.data",
            f"has {total} bytes; at most {most_bytes} are taken (VOICEMESH_GATEWAY_MAX_IMAGE_BYTES)",
        )
    for number, picture in pictures:
        _check(picture, f"prompt.parts[{number}].image")


def _check(picture: Image, path: str) -> None:
    if picture.url:
        if not picture.url.startswith(_ADDRESSES):
            raise InvalidFieldError(
                f"{path}.url", f"must begin with https://, or with data: and one of {', '.join(MEDIA_TYPES)}"
            )
        return
    if not picture.data:
        raise InvalidFieldError(path, "must have data or a url")
    found = media_type_of(picture.data)
    if not found:
        raise InvalidFieldError(f"{path}.data", f"is none of {', '.join(MEDIA_TYPES)} by its first bytes")
    if picture.media_type != found:
        raise InvalidFieldError(
            f"{path}.media_type", f"is {picture.media_type[:80]!r}, and the first bytes are of {found!r}"
        )
