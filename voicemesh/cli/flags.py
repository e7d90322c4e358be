"""What `voicemesh flags` does."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voicemesh.cli.exits import DONE, FAILED, Failure, usage
from voicemesh.flags.definitions import CHECKS, EMPTY, Definitions, Flag
from voicemesh.flags.edits import set_flag, shares_of
from voicemesh.flags.errors import FlagsError
from voicemesh.flags.versions import Change, FlagsFile, Version

_SHOWN_CHARS = 60
_TAKES_BACK = "`voicemesh flags rollback` takes the last change back"


def run_list(
    path: Path | None, session: str, tenant: str, attributes: Sequence[str] = (), *, as_json: bool
) -> int:
    """Print the flags; return 1 where the file is broken.

    Args:
        path: The file; None is wrong use.
        session: Whose variants to tell too; "" for nobody's.
        tenant: Whose session it is.
        attributes: What else rules look at, each as `NAME=VALUE`.
        as_json: True to print one JSON object.

    """
    file = _file(path)
    known = _attributes(attributes)
    if known and not session:
        raise usage("--attribute: is of a session; name it with --session")
    problem, definitions, version = "", EMPTY, None
    try:
        if file.content() is None:
            problem = "there is no such file; `voicemesh flags set` makes one"
        definitions = file.read()
    except FlagsError as error:
        problem = str(error)
        if (found := file.last_good()) is not None:
            version, definitions = found
    given = _given(definitions, session, {**known, "tenant": tenant}) if session else None
    if as_json:
        print(json.dumps(_as_json(file, problem, definitions, given)))
    else:
        _show(file, problem, definitions, version, given)
    return FAILED if problem else DONE


def run_set(path: Path | None, flag: str, variants: str, value: str | None, *, as_json: bool) -> int:
    """Change a flag, and say what is different."""
    file = _file(path)
    try:
        shares = shares_of(variants)
    except FlagsError as error:
        raise usage(f"SHARES: {error}") from None
    return _changed(
        file, lambda: file.change(lambda document: set_flag(document, flag, shares, value)), as_json
    )


def run_rollback(path: Path | None, flag: str, to: int | None, *, as_json: bool) -> int:
    """Take back a change, and say what is different."""
    file = _file(path)
    return _changed(file, lambda: file.roll_back(flag, to), as_json)


def _file(path: Path | None) -> FlagsFile:
    if path is None:
        raise usage(
            "--file: no file of flags is named",
            "set VOICEMESH_FLAGS_FILE to what the gateway's is, or give --file",
        )
    if path.is_dir():
        raise usage(f"--file: {path} is a folder")
    return FlagsFile(path)


def _changed(file: FlagsFile, change: Any, as_json: bool) -> int:
    try:
        done: Change = change()
    except FlagsError as error:
        broken = "" if _is_good(file) else _TAKES_BACK
        raise Failure(FAILED, "FLAGS_NOT_CHANGED", f"{file.path}: {error}", broken) from None
    if as_json:
        changed = {"file": str(file.path), "version": done.version, "went_back_to": done.source}
        print(json.dumps({**changed, "changes": done.lines}))
        return DONE
    for line in done.lines:
        print(line)
    back = f", as it was in version {done.source}" if done.source is not None else ""
    print(f"version {done.version} of {file.path}{back}; gateways take it with their next turns")
    return DONE


def _is_good(file: FlagsFile) -> bool:
    try:
        file.read()
    except FlagsError:
        return False
    return True


def _attributes(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals or name in ("tenant", "session", "targetingKey") or name.startswith("$"):
            raise usage(
                f"--attribute: {text!r} is no NAME=VALUE, or has a name of --session and --tenant",
                "for example --attribute language=de",
            )
        found[name] = value
    return found


def _given(definitions: Definitions, session: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Return what a session gets, by the rules that look at no more than it and these attributes."""
    try:
        from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415 - only here

        from voicemesh.flags.provider import FileProvider  # noqa: PLC0415 - needs the extra `flags`
    except ModuleNotFoundError as error:
        raise usage(f"--session: {error.name} is not installed", "pip install 'voicemesh[flags]'") from None
    provider = FileProvider()
    provider.use(definitions)
    context = EvaluationContext(session, {**attributes, "session": session})
    given = {}
    for key in definitions.own:
        try:
            given[key] = provider.resolve_string_details(key, "", context).variant or ""
        except Exception as error:  # noqa: BLE001 - a rule's own mistake, which the gateway counts
            given[key] = f"({type(error).__name__}: {error})"
    return given


def _as_json(
    file: FlagsFile, problem: str, definitions: Definitions, given: Mapping[str, str] | None
) -> dict[str, Any]:
    return {
        "file": str(file.path),
        "problem": problem or None,
        "flags": {key: _flag_json(flag) for key, flag in definitions.flags.items()},
        "session": given,
        "versions": [
            {"version": version.number, "written": _time(version).isoformat()} for version in file.versions()
        ],
    }


def _flag_json(flag: Flag) -> dict[str, Any]:
    return {
        "enabled": flag.enabled,
        "variants": flag.variants,
        "default": flag.default or None,
        "override": flag.override,
        "who": list(flag.who),
        "known": flag.key in CHECKS,
    }


def _show(
    file: FlagsFile,
    problem: str,
    definitions: Definitions,
    version: Version | None,
    given: Mapping[str, str] | None,
) -> None:
    if problem:
        print(f"error: FLAGS_FILE: {file.path}: {problem}", file=sys.stderr)
    if version is not None:
        print(f"hint: {_TAKES_BACK}; version {version.number}, which is good, follows", file=sys.stderr)
    for key, flag in definitions.flags.items():
        print(key + (" (no flag of voicemesh)" if key not in CHECKS else ""))
        for line in flag.who:
            print(f"  {line}")
        for name, value in flag.variants.items():
            print(f"    {name} = {_short(value)}")
        if flag.override:
            print("  also for callers who asked for something themselves")
        if given and key in given:
            print(f"  this session: {given[key] or 'as without the flag'}")
    if not definitions.flags and not problem:
        print("no flags")
    if definitions.own:
        print("\nwhether there are such models and voices, only a gateway knows: under `flags`,")
        print("its GET /healthz counts what it could not use (`problems`), and says why (`reasons`)")
    kept = file.versions()
    if kept:
        when = f"{_time(kept[-1]):%Y-%m-%d %H:%M} UTC"
        print(f"\n{len(kept)} versions are kept, the newest is {kept[-1].number} of {when}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"


def _time(version: Version) -> datetime:
    return datetime.fromtimestamp(round(version.written_s), UTC)
