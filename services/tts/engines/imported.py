"""Engines that do not come with this package: a voice names their class as `package.module:Class`.

The module is looked for as any other (`PYTHONPATH`, installed packages), in the worker process alone: the
service never imports it. Naming one lets it run as the service's user; the declaration of a voice is the
operator's, like the command that starts the service, and no request can name an engine.
"""

import importlib
from collections.abc import Callable
from typing import Any

from services.tts.engines.base import Engine, OptionsError, SteppedEngine


def engine_class(path: str) -> Callable[[str, dict[str, Any]], Engine | SteppedEngine]:
    """Import the engine that `package.module:Class` names; it is called with language and options.

    Raises:
        OptionsError: There is no such module or class, it cannot be imported, or is no engine.

    """
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            message = f"there is no module {error.name!r}; is its folder on PYTHONPATH?"
        else:
            message = f"{module_name} needs the module {error.name!r}, which is not installed"
        raise OptionsError(f"engine: {message}") from None
    except Exception as error:
        message = f"{module_name} cannot be imported: {type(error).__name__}: {error}"
        raise OptionsError(f"engine: {message}") from error
    found = getattr(module, class_name, None)
    if found is None:
        raise OptionsError(f"engine: {module_name} has no class {class_name!r}")
    if not (isinstance(found, type) and issubclass(found, (Engine, SteppedEngine))):
        raise OptionsError(
            f"engine: {path} is not a subclass of {Engine.__module__}.{Engine.__name__} or SteppedEngine"
        )
    return found
