"""`voicemesh usage`: what tenants consumed, and what it cost."""

import asyncio
import json
from typing import Final

from rich.text import Text

from voicemesh.cli.characters import printable
from voicemesh.cli.console import console_for, print_table, table_of
from voicemesh.cli.exits import DONE
from voicemesh.cli.lookup import ask_mesh
from voicemesh.client import UsageTotals

_NAME_CELLS: Final = 13
"""With these the table has 80 columns; a longer name goes on in the next line."""


def _variants(text: str) -> list[str]:
    """Return what the turns were made with, a line each."""
    return [f" {part.removeprefix('voicemesh.')}" for part in printable(text).split(",") if part]


def dollars(usd: float) -> str:
    """Return an amount as people read it: cents, and more places where it is less than one."""
    return f"${usd:.2f}" if usd >= 1 or not usd else f"${usd:.6f}"


def run_usage(addr: str, tenant: str, *, all_tenants: bool, as_json: bool) -> int:
    """Print what was consumed since the gateway began. Raises Failure."""
    rows = asyncio.run(ask_mesh(addr, lambda mesh: mesh.usage(all_tenants=all_tenants), tenant))
    if as_json:
        print(json.dumps({"usage": [row.to_json() for row in rows]}))
        return DONE
    console = console_for()
    if not rows:
        console.print("no turn has ended here yet")
        return DONE
    table = table_of(
        "tenant, variant",
        "turns",
        "tokens in",
        "out",
        "chars",
        "engine s",
        "cost",
        "saved",
        left=1,
    )
    table.columns[0].max_width = _NAME_CELLS
    for row in rows:
        table.add_row(
            Text("\n".join([printable(row.tenant) or "-", *_variants(row.variant)])),
            str(row.turns),
            str(row.input_tokens),
            str(row.output_tokens),
            str(row.characters),
            f"{row.engine_s:.1f}",
            dollars(row.cost.total_usd),
            dollars(row.cost.saved_usd),
        )
    print_table(console, table)
    for line in remarks(rows):
        console.print(line, markup=False, soft_wrap=True)
    return DONE


def remarks(rows: list[UsageTotals]) -> list[str]:
    """Return what the sums do not say by themselves."""
    lines = []
    unpriced = dict.fromkeys(name for row in rows for name in row.cost.unpriced)
    if unpriced:
        turns = sum(row.unpriced_turns for row in rows)
        lines.append(
            f"{turns} turns had something without a price, which the cost is without: {', '.join(unpriced)}; "
            "set VOICEMESH_PRICES_LLM and VOICEMESH_PRICES_SPEECH"
        )
    if any(row.cost.estimated for row in rows):
        lines.append(
            "some tokens are estimated: replies that were broken off, or whose provider did not count"
        )
    cached = sum(row.cached_input_tokens for row in rows)
    if cached:
        lines.append(f"{cached} of the tokens in were in providers' prompt caches")
    prompt_cache = sum(row.cost.prompt_cache_saved_usd for row in rows)
    if prompt_cache:
        lines.append(f"providers' prompt caches took off {dollars(prompt_cache)}")
    return lines
