"""Whose turn it is: how a tenant is named, and where the name travels.

A tenant has cache entries, sessions and channels of its own. Its name goes with each call, as metadata
of gRPC or as a header of HTTP. Nothing here proves that the caller is that tenant: the mesh believes
the name, so whoever can reach the gateway must be one that sets it truthfully: a proxy, for example, that
proves who callers are and sets the name for each. Calls without a name are the operator's: they alone may ask
for what all tenants consumed.
This module is plain Python, so that callers, the edge and logic use one rule.
"""

import string
from typing import Final

METADATA_KEY: Final = "voicemesh-tenant"
"""Key of the metadata of a gRPC call."""
HTTP_HEADER: Final = "X-Voicemesh-Tenant"
"""Header of an HTTP request."""
MAX_CHARS: Final = 64
SHARED: Final = "*"
"""In a cache key, where a tenant stands: the entry is all tenants'. No tenant can have this name."""

_FIRST: Final = frozenset(string.ascii_letters + string.digits)
_OTHERS: Final = _FIRST | frozenset("._-")


def problem(name: str) -> str:
    """Return what is wrong with a tenant's name, or "" where nothing is. "" is the tenant without a name."""
    if not name:
        return ""
    if len(name) > MAX_CHARS:
        return f"has {len(name)} characters; at most {MAX_CHARS} are taken"
    if name[0] not in _FIRST or not _OTHERS.issuperset(name):
        return "must begin with a letter or digit of ASCII and go on with those, '.', '_' or '-'"
    return ""
