"""What `voicemesh keys` does."""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from voicemesh import keyfile
from voicemesh.cli.console import console_for, print_table, table_of
from voicemesh.cli.exits import DONE, FAILED, Failure, usage

_DAYS: Final = re.compile(r"([1-9]\d{0,4})d")


def run_new(
    path: Path | None,
    key_id: str,
    *,
    tenant: str,
    scopes: Sequence[str],
    priority: str,
    limits: Mapping[str, int],
    expires: str,
    note: str,
    as_json: bool,
) -> int:
    """Add a key to the file and print it."""
    file = _file(path)
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        keyfile.check_id(key_id)
        for scope in scopes:
            keyfile.check_scope(scope)
        if days := _DAYS.fullmatch(expires):
            expires = _text_of(now + timedelta(days=int(days[1])))
        elif expires:
            try:
                keyfile.time_of(expires)
            except ValueError as error:
                raise ValueError(f"{error}, or a number of days such as 90d") from None
    except ValueError as error:
        raise usage(str(error)) from None
    key = keyfile.new_key(key_id)
    entry: dict[str, Any] = {
        "id": key_id,
        "sha256": keyfile.digest(key),
        "tenant": tenant,
        "scopes": list(dict.fromkeys(scopes)),
        "priority": priority,
        "limits": dict(limits),
        "created": _text_of(now),
        "expires": expires,
        "note": note,
    }
    entry = {name: value for name, value in entry.items() if value or name == "tenant"}

    def add(keys: list[dict[str, Any]]) -> None:
        if any(other["id"] == key_id for other in keys):
            raise usage(
                f"ID: there is a key {key_id} already", "revoke it, and take another id for a new one"
            )
        keys.append(entry)

    _change(file, add)
    if as_json:
        print(json.dumps({**entry, "key": key}))
    else:
        print(key)
        print(f"{file} has its digest; the key itself is shown this once.", file=sys.stderr)
    return DONE


def run_list(path: Path | None, *, as_json: bool) -> int:
    """Print the keys."""
    file = _file(path)
    try:
        keys = keyfile.read(file)
    except keyfile.KeyFileError as error:
        raise _broken(file, error) from None
    now_s = time.time()
    if as_json:
        rows = [
            {
                **{name: value for name, value in key.source.items() if name != "sha256"},
                "state": key.state(now_s),
            }
            for key in keys.values()
        ]
        print(json.dumps({"file": str(file), "keys": rows}))
        return DONE
    if not keys:
        print(f"{file} has no keys")
        return DONE
    table = table_of("id", "tenant", "may", "priority", "state", "expires", "note", left=7)
    for key in keys.values():
        table.add_row(
            key.id,
            key.tenant or "-",
            " ".join(key.scopes),
            key.priority,
            key.state(now_s),
            str(key.source.get("expires") or "-"),
            key.note,
        )
    print_table(console_for(), table)
    return DONE


def run_revoke(path: Path | None, key_id: str, *, as_json: bool) -> int:
    """Have a key not be taken any more."""
    file = _file(path)

    def disable(keys: list[dict[str, Any]]) -> None:
        for entry in keys:
            if entry["id"] == key_id:
                entry["disabled"] = True
                return
        raise Failure(FAILED, "UNKNOWN_KEY", f"there is no key {key_id} in {file}", "`voicemesh keys list`")

    _change(file, disable)
    print(json.dumps({"id": key_id, "state": "revoked"}) if as_json else f"{key_id} is revoked")
    return DONE


def _file(path: Path | None) -> Path:
    if path is None:
        raise usage(
            "--file: no file of keys is named",
            "set VOICEMESH_GATEWAY_KEYS_FILE to what the gateway's is, or give --file",
        )
    return path


def _change(file: Path, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    try:
        keyfile.change(file, edit)
    except keyfile.KeyFileError as error:
        raise _broken(file, error) from None


def _broken(file: Path, error: keyfile.KeyFileError) -> Failure:
    return Failure(FAILED, "BAD_KEYS_FILE", f"{file} {error}")


def _text_of(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
