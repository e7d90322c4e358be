"""The style of the report: light or dark as the reader's system is, one column on a phone, and for paper."""

from typing import Final

# ruff: noqa: E501 - a style sheet is read by rules, one a line

_LIGHT: Final = """
  --page: #ffffff; --card: #f6f7f9; --ink: #1b1f24; --dim: #57606a; --rule: #d5dae0; --grid: #e4e8ec;
  --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; --accent: #0b5fc0;
  --p50: #6aa5e8; --p95: #1f6fc9; --p99: #0a2f66;
  --r0: #2c9c8f; --r1: #3f8fc4; --r2: #4a6fc9; --r3: #7656c2; --r4: #a545a6; --r5: #c2325e;
"""
_DARK: Final = """
  --page: #0f1318; --card: #171c23; --ink: #e6eaef; --dim: #9aa5b1; --rule: #333c47; --grid: #262d36;
  --good: #4cc36e; --bad: #ff7b72; --warn: #e3b341; --accent: #6cb0ff;
  --p50: #5a8fd0; --p95: #6cb0ff; --p99: #d6e8ff;
  --r0: #54cfc0; --r1: #62b6ec; --r2: #86a3ff; --r3: #b294f5; --r4: #e083e0; --r5: #ff7a9c;
"""
STAGE_COLOURS: Final = {
    "admission": ("#8b949e", "#8b949e"),
    "history": ("#7aa37a", "#8fbf8f"),
    "reply_cache": ("#4f9a5a", "#6fc27c"),
    "llm_connect": ("#8fc1f0", "#9fcdf7"),
    "llm_ttft": ("#3f83d6", "#5f9ff0"),
    "llm_text": ("#1d4fa0", "#3f73cf"),
    "chunk_hold": ("#d9a514", "#e8bd3f"),
    "audio_cache": ("#2c7a4b", "#43a56b"),
    "tts_queue": ("#c8372d", "#f0685e"),
    "tts_synthesis": ("#e8833a", "#f5a062"),
    "transport": ("#9a6fc4", "#b592dc"),
    "gateway": ("#6e7781", "#aab2bb"),
    "unattributed": ("#d0a0b8", "#8a5a72"),
}
"""Of each part of the time to first audio, light and dark: what one service does has one hue."""
_DARK_TEXT: Final = ("llm_connect", "chunk_hold", "tts_synthesis", "unattributed", "history")
"""Parts on which dark text is read better in both."""


def style() -> str:
    """Return the whole style sheet."""
    stages = "\n".join(
        f".stage-{name} {{ background: {light}; }}" for name, (light, _) in STAGE_COLOURS.items()
    )
    dark_stages = "\n".join(
        f".stage-{name} {{ background: {dark}; }}" for name, (_, dark) in STAGE_COLOURS.items()
    )
    readable = ", ".join(f".bar .stage-{name}" for name in _DARK_TEXT)
    ramp = "\n".join(
        f".line.ramp-{place} {{ stroke: var(--r{place}); }} .key i.ramp-{place} {{ background: var(--r{place}); }}"
        for place in range(6)
    )
    quantiles = "\n".join(
        f".line.q-{name} {{ stroke: var(--{name}); }} "
        f".mark.q-{name}, .name.q-{name} {{ fill: var(--{name}); }} .part-{name} {{ background: var(--{name}); }}"
        for name in ("p50", "p95", "p99")
    )
    return f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1120px; padding: 1rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
h1 {{ font-size: 1.5rem; margin: .2rem 0; }}
h2 {{ font-size: 1.15rem; margin: 1.8rem 0 .6rem; }}
h3 {{ font-size: .95rem; margin: 1rem 0 .3rem; }}
p {{ margin: .3rem 0; }}
.dim, figcaption {{ color: var(--dim); }}
figcaption b {{ color: var(--ink); }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: .6rem; margin: 1rem 0; }}
.tile {{ background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .55rem .7rem; }}
.tile b {{ display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }}
.tile.bad b {{ color: var(--bad); }}
.advice {{ background: var(--card); border: 1px solid var(--rule); border-left: 4px solid var(--accent);
  border-radius: 6px; padding: .6rem .8rem .6rem 2rem; margin: .6rem 0; }}
.advice li {{ margin: .25rem 0; overflow-wrap: anywhere; }}
.warning {{ border-left-color: var(--warn); }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: .8rem; }}
figure {{ margin: 0; padding: .6rem .7rem; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; min-width: 0; break-inside: avoid; }}
figure.wide {{ grid-column: 1 / -1; }}
figcaption {{ font-size: .9rem; margin-bottom: .4rem; }}
svg.plot {{ display: block; width: 100%; height: auto; max-width: 620px; margin: 0 auto; }}
svg text {{ font-size: 12px; fill: var(--dim); font-family: inherit; }}
svg .name {{ font-weight: 600; }}
svg .end {{ text-anchor: end; }}
svg .middle {{ text-anchor: middle; }}
svg line.grid {{ stroke: var(--grid); stroke-width: 1; }}
svg line.axis {{ stroke: var(--dim); stroke-width: 1; }}
svg .line {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
svg .zero {{ stroke: var(--dim); stroke-dasharray: 3 3; }}
{quantiles}
{ramp}
svg .mark {{ stroke: var(--card); stroke-width: .8; }}
svg .turn-none {{ fill: var(--p95); fill-opacity: .75; }} .dot.turn-none {{ background: var(--p95); }}
svg .turn-audio {{ fill: #4f9a5a; }} .dot.turn-audio {{ background: #4f9a5a; }}
svg .turn-reply {{ fill: var(--r0); }} .dot.turn-reply {{ background: var(--r0); }}
svg .turn-dry {{ fill: var(--warn); }} .dot.turn-dry {{ background: var(--warn); }}
svg .turn-failed {{ fill: var(--bad); }} .dot.turn-failed {{ background: var(--bad); }}
svg .better {{ stroke: var(--good); fill: var(--good); }} svg .worse {{ stroke: var(--bad); fill: var(--bad); }}
svg .unclear {{ stroke: var(--dim); fill: var(--dim); }}
.better {{ color: var(--good); }} .worse {{ color: var(--bad); }}
.bars {{ display: block; }}
.bar-name {{ font-size: .85rem; margin-top: .45rem; overflow-wrap: anywhere; }}
.bar-line {{ display: flex; align-items: center; gap: .5rem; }}
.bar-line b {{ font-size: .85rem; font-variant-numeric: tabular-nums; width: 4.2em; flex: none; text-align: right; }}
.bar {{ display: flex; flex: 1; height: 22px; min-width: 0; background: var(--grid); border-radius: 3px; overflow: hidden; }}
.bar span {{ display: block; height: 100%; min-width: 1px; overflow: hidden; color: #fff; font-size: 11px; line-height: 22px;
  text-align: center; white-space: nowrap; }}
.part-value, .part-hit {{ background: var(--p95); }} .part-similar {{ background: var(--p50); }}
.part-miss {{ background: var(--rule); }} .bar .part-miss {{ color: var(--ink); }}
.part-count {{ background: var(--warn); }}
{stages}
{readable} {{ color: #111; }}
.keys {{ margin: .5rem 0 0; font-size: .8rem; }}
.key {{ display: inline-flex; align-items: center; gap: .3em; margin-right: .9em; white-space: nowrap; }}
.key i {{ width: .8em; height: .8em; border-radius: 2px; display: inline-block; }}
.key i.dot {{ border-radius: 50%; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; width: 100%; }}
th, td {{ text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }}
th {{ color: var(--dim); font-weight: 600; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
td:not(.number) {{ min-width: 8em; }}
details {{ margin-top: .5rem; }} summary {{ cursor: pointer; color: var(--accent); font-size: .85rem; }}
code {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .92em; }}
@media screen and (prefers-color-scheme: dark) {{
{dark_stages}
.bar span {{ color: #0f1318; }} .bar .part-miss {{ color: var(--ink); }}
}}
@media (max-width: 520px) {{ body {{ padding: .6rem; }} svg text {{ font-size: 13.5px; }} figure {{ padding: .5rem; }} }}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 10pt; }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
  .grid {{ grid-template-columns: 1fr 1fr; }} .scroll {{ overflow: visible; }}
  details::details-content {{ content-visibility: visible; block-size: auto; }} summary {{ display: none; }}
}}
"""
