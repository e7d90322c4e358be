"""Which versions of packages render audio here: another one may make other samples of the same text.

Workers import this module: standard library only.
"""

from functools import cache
from importlib import metadata


@cache
def version_of(package: str) -> str:
    """Return the version of a package; "" where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
