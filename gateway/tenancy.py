"""Whose call it is, as the edges read it."""

from collections.abc import Iterable
from typing import Any

from voicemesh import tenant
from voicemesh.runtime.errors import InvalidFieldError


def of_call(context: Any) -> str:
    """Return the tenant that a gRPC call names in its metadata; "" where it names none.

    Raises:
        InvalidFieldError: It is no tenant's name, or there are several.

    """
    metadata = context.invocation_metadata() or ()
    return one_of((value for key, value in metadata if key == tenant.METADATA_KEY), tenant.METADATA_KEY)


def one_of(names: Iterable[str | bytes], field: str) -> str:
    """Return the only name among those that a call was given in `field`; "" where it was given none.

    Raises:
        InvalidFieldError: It is no tenant's name, or there are several.

    """
    given = {name if isinstance(name, str) else name.decode("latin-1") for name in names}
    if len(given) > 1:
        raise InvalidFieldError(field, "is given more than once; a call has one tenant")
    name = given.pop() if given else ""
    if wrong := tenant.problem(name):
        raise InvalidFieldError(field, wrong)
    return name
