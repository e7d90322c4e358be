"""Replies to be spoken, and what in them must stay in one piece.

The harness has six replies of its own. Those here are others: what assistants say, with what makes it hard to
cut. `whole` lists the places where a cut would be heard as wrong: behind an abbreviation in the middle of a
sentence, in a number, an address or a list's number.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Reply:
    """A reply; no chunk may begin inside any of `whole`."""

    text: str
    whole: tuple[str, ...] = ()


WHOLE_IN_HARNESS: Final = (
    "3.5%",
    "Dr. Smith",
    "10.30",
    "a.m. in",
    "2.5 hours",
    "1. Open",
    "2. Choose",
    "3. Press",
    "https://docs.example.com/voice/start.html",
)
"""For the six replies of the harness."""

OWN: Final = (
    Reply("Yes."),
    Reply("Of course. I have moved your appointment to Thursday at four, and the old one is cancelled."),
    Reply(
        "The train that leaves from platform nine every morning is usually late on Mondays because the crew "
        "has to wait for the connecting service from the coast. You had better take the earlier one."
    ),
    Reply(
        "There are three ways to do it:\n\n1. Take the train at 9.15.\n2. Rent a car at the station.\n"
        "3. Walk along the river, which takes two hours.\n\nI would take the train.",
        ("9.15", "1. Take", "2. Rent", "3. Walk"),
    ),
    Reply(
        "Mr. and Mrs. Green met Prof. Li at St. Mary's on Jan. 5th, i.e. the day before the storm. "
        "They have been friends ever since.",
        ("Mr. and Mrs. Green", "Prof. Li", "St. Mary's", "Jan. 5th", "i.e. the"),
    ),
    Reply(
        "The total is $1,234.50, which is 12.5% more than the 1,097.33 that you paid in the third quarter. "
        "Shall I send you the details?",
        ("$1,234.50", "12.5%", "1,097.33"),
    ),
    Reply(
        'She said, "Don\'t wait for me!" and closed the door. "We won\'t," I answered. That was the last '
        "time anybody saw her in the village.",
        ('me!"', "won't,\""),
    ),
    Reply(
        "Guten Tag! Ihr Termin bei Dr. Weber ist am 3. März um 14.30 Uhr. Bitte bringen Sie z. B. Ihren "
        "Ausweis mit, und kommen Sie zehn Minuten früher.",
        ("Dr. Weber", "3. März", "14.30", "z. B. Ihren"),
    ),
    Reply(
        "Bonjour ! M. Dupont vous attend à 10 h 30, au deuxième étage ; l'entrée se trouve à gauche. "
        "Voulez-vous que je l'appelle ?",
        ("M. Dupont", "10 h 30", "gauche."),
    ),
    Reply(
        "¡Claro que sí! El Sr. López llega a las 8.45, ¿quiere que le avise? "
        "También puedo enviarle un mensaje.",
        ("Sr. López", "8.45"),
    ),
    Reply(
        "Version 2.10.3 fixes the bug that 2.9 had. Install it on one machine first, watch the logs for a "
        "day, and only then go on with the others.",
        ("2.10.3", "2.9 had"),
    ),
    Reply(
        "The call starts at 3 p.m. EST, that is 9 p.m. in Berlin. I have put it into both calendars.",
        ("3 p.m. EST", "9 p.m. in"),
    ),
    Reply(
        "Write to help@example.com or open www.example.org/start?id=7, and mention ticket no. 4711. "
        "Somebody will answer within a day.",
        ("help@example.com", "www.example.org/start?id=7", "no. 4711"),
    ),
    Reply(
        "Well… it depends — most people prefer the window seat, but the aisle is quicker. "
        "Hmm, what do you think?"
    ),
    Reply(
        "Really?! That's great news! When do you start, and what will your new team be working on?", ("?!",)
    ),
    Reply(
        "**Important:** back up your data first. Then run `make clean`, wait for a minute, and try again. "
        "If it still fails, send me the log.",
        ("make clean",),
    ),
    Reply(
        "The bridge (built in 1894, rebuilt in 1952) is 240 m long. It carries about 40,000 cars a day, "
        "not counting buses.",
        ("240 m long", "40,000"),
    ),
    Reply(
        "The U.S. team beat the U.K. team by three to two in Washington D.C. last night. It was the first "
        "win in eleven years, and the crowd stayed until midnight.",
        ("U.S. team", "U.K. team", "D.C. last"),
    ),
    Reply(
        "take the second left after the church and then keep going until you see the old mill where the road "
        "becomes narrow and park there because you cannot turn around further up"
    ),
    Reply("好的，我来帮你。请先打开设置，然后选择你喜欢的声音。完成之后请告诉我，我会继续说明。"),  # noqa: RUF001 - its marks
    Reply(
        "Set max_retries to 5, e.g. in config.yaml, then call client.send() once. The default is 3 vs. 10 in "
        "the old version.",
        ("max_retries", "e.g. in", "config.yaml", "client.send()", "vs. 10"),
    ),
    Reply(
        "Two things matter here: the price, and the date. Everything else can be changed later, "
        "free of charge."
    ),
    Reply(
        "No. The museum is closed on Mondays, but the garden stays open until 8 p.m. all summer. Dogs are "
        "welcome if they are on a lead.",
        ("8 p.m. all",),
    ),
    Reply(
        "Although the forecast for the whole of next week promises nothing but sunshine and very high "
        "temperatures, you should still pack a light rain jacket because storms can build up quickly."
    ),
    Reply("It costs €4.99 a month, or £49 a year. Cancel whenever you like.", ("€4.99", "£49")),
    Reply(
        "J. R. R. Tolkien wrote it between 1937 and 1949. It has sold over 150 million copies, and it has "
        "never been out of print.",
        ("J. R. R. Tolkien", "150 million"),
    ),
)


def false_splits(text: str, cuts: Sequence[int], whole: Sequence[str]) -> list[str]:
    """Return a picture, `left|right`, of each cut that is wrong.

    `cuts` are positions in `text`. Wrong are those inside of one of `whole`, and those inside a word, where
    the script has spaces between words.
    """
    wrong = []
    for cut in cuts:
        inside = any(
            cut in range(at + 1, at + len(unit)) for unit in whole for at in _occurrences(text, unit)
        )
        if inside or _inside_a_word(text, cut):
            wrong.append(f"{text[max(cut - 12, 0) : cut]}|{text[cut : cut + 12]}")
    return wrong


def cuts_of(text: str, chunks: Sequence[str]) -> list[int] | None:
    """Return where in `text` each chunk but the last ends; None where the chunks are not its text.

    White space counts for nothing: chunkers trim.
    """
    places = [at for at, character in enumerate(text) if not character.isspace()]
    packed = "".join(text.split())
    cuts, seen = [], 0
    for chunk in chunks:
        bare = "".join(chunk.split())
        if not bare or packed[seen : seen + len(bare)] != bare:
            return None
        seen += len(bare)
        cuts.append(places[seen - 1] + 1)
    return cuts[:-1]


def _occurrences(text: str, unit: str) -> list[int]:
    return [at for at in range(len(text)) if text.startswith(unit, at)]


def _inside_a_word(text: str, cut: int) -> bool:
    left, right = text[cut - 1 : cut], text[cut : cut + 1]
    if not (left.isalnum() and right.isalnum()):
        return False
    return not any(unicodedata.east_asian_width(character) in "WF" for character in (left, right))
