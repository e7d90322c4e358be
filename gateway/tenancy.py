"""Whose call it is, as the edges read it."""

from collections.abc import Iterable
from typing import Any

from gateway.access.caller import CURRENT, Caller
from voicemesh import tenant
from voicemesh.runtime.errors import InvalidFieldError, PermissionDeniedError


def caller_of(context: Any) -> Caller:
    """Return who makes a gRPC call; without access control, one of the tenant that the call names.

    Raises:
        InvalidFieldError: It is no tenant's name, or there are several.

    """
    return CURRENT.get() or Caller(tenant=of_call(context))


def of_call(context: Any) -> str:
    """Return the tenant that a gRPC call names in its metadata; "" where it names none.

    Raises:
        InvalidFieldError: It is no tenant's name, or there are several.

    """
    metadata = context.invocation_metadata() or ()
    return one_of((value for key, value in metadata if key == tenant.METADATA_KEY), tenant.METADATA_KEY)


def asked_for(context: Any, *, all_tenants: bool) -> str | None:
    """Return the tenant that a gRPC call may be told of; None, which is all, where it asks for that.

    Raises:
        InvalidFieldError: It asks for all, and names one: who is let in under a name learns of no other.
        PermissionDeniedError: It asks for all, and its key does not allow that.

    """
    caller = CURRENT.get()
    if caller is not None:
        if all_tenants and not caller.may("operator"):
            raise PermissionDeniedError(
                "all_tenants: this needs the scope `operator`, which the key or token has not",
                field="all_tenants",
            )
        return None if all_tenants else caller.tenant
    tenant = of_call(context)
    if all_tenants and tenant:
        raise InvalidFieldError(
            "all_tenants", f"is for callers that name no tenant, and this one is {tenant!r}"
        )
    return None if all_tenants else tenant


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
