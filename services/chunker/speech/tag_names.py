# ruff: noqa: SIM905 - a table of words is read best as words
"""Names of HTML and SSML elements, and what the filter does at their tags.

Source: the HTML standard's list of elements with the default style `display: block`, and W3C SSML 1.1.
"""

from typing import Final

BLOCKS: Final = frozenset(
    "address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li main menu nav "
    "ol optgroup option p pre search section summary table tbody tfoot thead title tr ul".split()
)
"""A boundary stands at each of their tags."""

CELLS: Final = frozenset(("td", "th"))
"""A space stands at each of their tags."""

INLINE: Final = frozenset(
    "a abbr acronym audio b base bdi bdo big button canvas cite code col colgroup data datalist del dfn em "
    "embed font i iframe img input ins kbd label link map mark meta meter noscript object output param "
    "picture progress q rp rt ruby s samp script select slot small source span strike strong style sub sup "
    "svg template textarea time track tt u var video wbr "
    "break desc emphasis lexicon lookup metadata phoneme prosody say-as sentence speak token voice w".split()
)
"""Nothing is said at their tags."""

KNOWN: Final = BLOCKS | CELLS | INLINE

UNREAD: Final = frozenset(("script", "style", "svg"))
"""What stands between their tags is not text."""

THOUGHTS: Final = frozenset(("think", "thinking", "reasoning"))
"""Where they begin a line, what stands between their tags is a model's thought and not its reply."""
