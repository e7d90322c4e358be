"""A module that needs another."""

import a_package_that_is_not_there  # type: ignore[import-not-found]  # noqa: F401 - that is the point
