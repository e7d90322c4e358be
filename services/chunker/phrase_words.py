# ruff: noqa: SIM905 - a table of words reads best as words
"""Words that show where phrases begin, and those that lean on the next word, for four languages.

A phrase boundary stands before a word that joins or opens a clause, or before a preposition, and only
behind a word that can end a phrase. Nothing here decides alone: `phrases.py` says how the lists combine.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from services.chunker.abbreviations import primary_subtag


@dataclass(frozen=True, slots=True)
class PhraseWords:
    """The words of one language, in lower case."""

    joiners: frozenset[str]
    """Join two of a kind (and, or): a boundary unless what they join is a pair or a name."""
    openers: frozenset[str]
    """Open a clause (because, which)."""
    asking: frozenset[str]
    """Those of them that may also depend on the verb before them (check if, tell when)."""
    prepositions: frozenset[str]
    particles: frozenset[str]
    """Prepositions that may also belong to a verb before them (turn it on): the next word must show it."""
    leaning: frozenset[str]
    """No chunk ends with them: articles, prepositions, possessives, auxiliaries, negations."""
    governing: frozenset[str]
    """Verbs and adjectives that a preposition belongs to (look for, responsible for)."""
    particle_verbs: frozenset[str]
    """Verbs whose particle may follow their object (turn the light on)."""
    pairing: frozenset[str]
    """Announce a pair (between, both): no boundary before the next joiner."""
    determiners: frozenset[str]
    """Begin a noun phrase."""
    predicates: frozenset[str]
    """Begin what is said of a subject: auxiliaries, verbs that are no nouns, adverbs of time and degree."""
    auxiliaries: frozenset[str]
    """Stand before a participle that says what happened (was born)."""
    subjects: frozenset[str]
    """Pronouns, and words that ask: what follows them is no new phrase."""
    numerals: frozenset[str]
    hours: frozenset[str]
    """Words before an hour (at nine)."""
    interjections: frozenset[str]
    """Open a reply: spoken apart they sound as they should, and the comma behind them is a pause."""
    nouns_are_capitalised: bool = False


_EN_VERBS: Final = """
look wait listen belong refer rely depend consist log sign ask search apply pay care account stand deal
agree
cope begin end result succeed believe participate invest specialize focus concentrate insist comment base
spend
count live lead add stick stay sit head aim laugh arrive prepare apologize blame thank exchange compare
connect
associate combine replace provide supply charge confuse help interfere mix meet struggle suffer recover
benefit
differ distinguish prevent protect save separate remove borrow learn hear dream know speak talk complain
worry
inform remind warn argue think come go get take run work walk move turn keep fall break cut hand feel
happen react
respond amount contribute lie object subscribe switch translate convert divide split click tap scroll
tell see
decide remember understand notice check matter depend choose explain
"""
_EN_PARTICLE_VERBS: Final = """
turn switch put plug hand bring take fill send call let get come go carry hold move set keep check drop
kick shut
lock break cut pick log sign write think pass point sort back hang pull push lay throw try type wake wrap
walk show
invite leave help want
"""
_EN_IRREGULAR: Final = """
putting getting setting letting cutting shutting dropping running sitting stood dealt began begun spent
stuck sat
met led heard knew known spoke spoken thought came went gone got gotten took taken ran kept fell fallen
felt broke
broken brought sent held wrote written hung laid threw thrown woke shown left dreamt learnt lying lay
paid said
putting planning plugging logging logged plugged dropped running
"""


def _forms(verbs: str) -> set[str]:
    """Return the regular forms of English verbs."""
    found: set[str] = set()
    for verb in verbs.split():
        stem = verb.removesuffix("e")
        consonant_y = verb.endswith("y") and verb[-2] not in "aeou"
        third = (
            f"{verb[:-1]}ies"
            if consonant_y
            else verb + ("es" if re.search(r"(?:s|sh|ch|x|o)$", verb) else "s")
        )
        past = f"{verb[:-1]}ied" if consonant_y else f"{stem}ed"
        found |= {verb, third, past, f"{stem}ing", f"{verb}{verb[-1]}ed", f"{verb}{verb[-1]}ing"}
    return found


def _set(*words: str | Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for some in words:
        found.update(some.split() if isinstance(some, str) else some)
    return frozenset(found)


def _phrases(joined: str) -> frozenset[str]:
    return frozenset(joined.split("|"))


_EN_PREPOSITIONS: Final = """
at for with from during without between among under behind near against into onto inside outside within
toward
towards via throughout despite beneath beside besides beyond upon
"""
_EN_PARTICLES: Final = "in on over through by around across along after before since"
_EN_DETERMINERS: Final = """
the a an this that these those my your his her its our their each every all most some any no many both
another
"""
_EN_AUXILIARIES: Final = """
is are was were am be been being has have had will would can could shall should may might must do does
did isn't
aren't wasn't weren't won't wouldn't can't cannot couldn't shouldn't doesn't don't didn't hasn't haven't
hadn't
"""
_EN_OPENERS: Final = """
because although though unless until while when whenever whereas wherever which who whose whom if where but
"""
_ENGLISH: Final = PhraseWords(
    interjections=_phrases(
        "sure|yes|no|of course|well|certainly|absolutely|great|okay|ok|right|all right|alright|definitely|"
        "sure thing|good question|great question|exactly|indeed|hello|hi|hey|sorry|thanks|thank you|"
        "no problem|good morning|good evening|hmm|ah|oh|perfect|understood|got it|to be honest|in short",
    ),
    joiners=_set("and or"),
    openers=_set(_EN_OPENERS),
    asking=_set("if when where who which whose whom whenever wherever"),
    prepositions=_set(_EN_PREPOSITIONS),
    particles=_set(_EN_PARTICLES),
    leaning=_set(
        _EN_PREPOSITIONS, _EN_PARTICLES, _EN_DETERMINERS, _EN_AUXILIARIES, _EN_OPENERS,
        "and or nor so yet of to about as than like per off out up down above below not never very too "
        "quite "
        "more less least much few several such half only even just also rather really almost nearly let "
        "let's "
        "exactly especially particularly shortly right soon long ever how what why that then i he she "
        "we they there i'm i'll i've i'd you're you'll you've you'd "
        "he's she's "
        "it's it'll we're we'll we've they're they'll they've that's there's here's what's who's if "
        "mr mrs ms dr prof st new san los old main next last first second third good great big small "
        "same other "
        "own whole entire full different simple short long best most-recent single extra free main "
        "right wrong",
    ),
    governing=_set(
        _forms(_EN_VERBS), _EN_IRREGULAR,
        "interested responsible aware afraid ready different similar due according based famous used "
        "angry happy "
        "sorry sure certain capable proud tired keen married engaged related linked close far away instead "
        "because ahead regardless apart aside depending except prior subject bit step side day face "
        "word door "
        "piece little again one two here it's something anything nothing what which who one's "
        "reason need demand search request access care answer key approach reply look effect impact "
        "difference relationship gap",
    ),
    particle_verbs=_set(_forms(_EN_PARTICLE_VERBS), _EN_IRREGULAR),
    pairing=_set("between both either neither from"),
    determiners=_set(_EN_DETERMINERS),
    predicates=_set(
        "is are was were has have had will would can could should may might must does did isn't aren't "
        "wasn't "
        "weren't won't wouldn't can't cannot couldn't shouldn't doesn't don't didn't hasn't haven't "
        "currently usually always also often normally generally typically still never already probably "
        "simply "
        "basically automatically actually now "
        "means gives makes takes comes goes begins depends consists includes contains requires allows "
        "provides "
        "tells lets keeps seems appears becomes remains lasts happens",
    ),
    auxiliaries=_set("is are was were am be been being isn't aren't wasn't weren't"),
    subjects=_set(
        "i you he she it we they there here who what which where how that why when this these those and "
        "or but",
    ),
    numerals=_set(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "twenty thirty "
        "forty fifty sixty seventy eighty ninety hundred thousand million billion",
    ),
    hours=_set("at by until till after before around since"),
)  # fmt: skip

_DE_DETERMINERS: Final = """
der die das den dem des ein eine einen einem einer eines mein meine meinen meinem meiner dein deine
deinen deinem
sein seine seinen seinem seiner ihr ihre ihren ihrem ihrer unser unsere unseren unserem unserer kein
keine keinen
keinem keiner dieser diese dieses diesen diesem jeder jede jedes jeden jedem alle allen viele vielen einige
einigen manche welche welcher welches
"""
_DE_PREPOSITIONS: Final = """
bei für ohne gegen wegen während trotz seit von beim vom zum zur ins im am ans zwischen neben hinter
gegenüber
innerhalb außerhalb
"""
_DE_PARTICLES: Final = "in an aus auf ab mit nach vor um durch über unter bis"
_GERMAN: Final = PhraseWords(
    interjections=_phrases(
        "klar|ja|nein|natürlich|gerne|gern|sicher|selbstverständlich|na klar|genau|gut|okay|ok|also|nun|"
        "hallo|danke|gute frage|kein problem|guten tag|guten morgen|guten abend|alles klar|verstanden|"
        "aber gerne|doch|tja|ach",
    ),
    joiners=_set("und oder sowie"),
    openers=_set(
        "aber sondern denn weil obwohl wenn als dass damit sobald solange nachdem bevor während falls "
        "sodass indem",
    ),
    asking=_set("ob"),
    prepositions=_set(_DE_PREPOSITIONS),
    particles=_set(_DE_PARTICLES),
    leaning=_set(
        _DE_DETERMINERS, _DE_PREPOSITIONS, _DE_PARTICLES,
        "und oder aber sowie sondern denn weil obwohl wenn als dass ob wie so zu sehr nicht auch nur "
        "noch schon "
        "mehr ganz etwa rund ist sind war waren hat haben hatte wird werden wurde wurden kann können "
        "konnte muss "
        "müssen soll sollen darf dürfen will wollen ich du er sie es wir man herr frau dr",
    ),
    governing=_set(
        "warten wartet hängt achten achtet gehört bezieht besteht bestehen sucht suchen fragt fragen "
        "denkt denken "
        "verantwortlich zuständig abhängig bereit grund bedarf nachfrage suche antwort zugriff zugang",
    ),
    particle_verbs=frozenset(),
    pairing=_set("zwischen sowohl weder entweder von"),
    determiners=_set(_DE_DETERMINERS),
    predicates=frozenset(),
    auxiliaries=_set("ist sind war waren wird werden wurde wurden"),
    subjects=_set("ich du er es wir man wer was wo wie"),
    numerals=_set(
        "ein eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig dreißig hundert "
        "tausend",
    ),
    hours=_set("um gegen bis ab nach vor seit"),
    nouns_are_capitalised=True,
)  # fmt: skip

_FR_DETERMINERS: Final = """
le la les un une des du au aux ce cet cette ces mon ma mes ton ta tes son sa ses notre nos votre vos leur
leurs
chaque quelques plusieurs tout toute tous toutes quel quelle
"""
_FR_PREPOSITIONS: Final = """
dans sur avec pour sans chez vers pendant depuis avant après entre contre sous devant derrière dès par parmi
malgré durant sauf selon près
"""
_FRENCH: Final = PhraseWords(
    interjections=_phrases(
        "oui|non|bien sûr|d'accord|certainement|absolument|eh bien|bon|volontiers|bonjour|bonsoir|salut|"
        "merci|très bien|parfait|exactement|en effet|tout à fait|pas de problème|bonne question|ah|alors",
    ),
    joiners=_set("et ou"),
    openers=_set("mais car parce puisque lorsque quand tandis quoique qui dont où lorsqu'il afin"),
    asking=_set("quand où qui"),
    prepositions=_set(_FR_PREPOSITIONS),
    particles=frozenset(),
    leaning=_set(
        _FR_DETERMINERS, _FR_PREPOSITIONS,
        "de à en et ou mais car que qui dont où si ne se me te y il elle on je tu ils elles nous vous "
        "très plus "
        "moins aussi trop bien peu assez encore déjà pas est sont était étaient a ont avait avaient "
        "peut peuvent "
        "doit doivent va vont sera seront fait faire être avoir comme quand lorsque parce puisque afin "
        "c'est "
        "m mme dr petit petite grand grande nouveau nouvelle nouveaux nouvelles bon bonne beau belle "
        "premier "
        "première dernier dernière même autre autres",
    ),
    governing=_set(
        "compte compter dépend appuyez appuyer cliquez cliquer comptez commence commencer finit finir "
        "travaille "
        "travailler passe passer passez agit responsable demande raison entrer entrez parler parlez",
    ),
    particle_verbs=frozenset(),
    pairing=_set("entre soit ni"),
    determiners=_set(_FR_DETERMINERS),
    predicates=_set(
        "est sont était étaient ont peut peuvent doit doivent sera seront permet coûte commence "
        "dépend",
    ),
    auxiliaries=_set("est sont était étaient été fut furent sera seront"),
    subjects=_set("je tu il elle on nous vous ils elles qui que ce ça cela où comment et ou mais"),
    numerals=_set(
        "un deux trois quatre cinq six sept huit neuf dix onze douze vingt trente quarante cent "
        "mille",
    ),
    hours=_set("à vers avant après dès"),
)  # fmt: skip

_ES_DETERMINERS: Final = """
el la los las un una unos unas mi tu su mis tus sus nuestro nuestra nuestros nuestras este esta estos
estas ese
esa esos esas aquel aquella cada todo toda todos todas algún alguna algunos algunas muchos muchas varios
varias
"""
_ES_PREPOSITIONS: Final = (
    "en con por para sin desde hasta durante entre sobre contra hacia según tras ante bajo mediante"
)
_SPANISH: Final = PhraseWords(
    interjections=_phrases(
        "sí|no|claro|por supuesto|desde luego|claro que sí|bueno|bien|pues|vale|hola|gracias|perfecto|"
        "exacto|entendido|de acuerdo|buenos días|buenas tardes|buena pregunta|con mucho gusto|"
        "sin problema|ah",
    ),
    joiners=_set("y e o u"),
    openers=_set("pero porque cuando mientras aunque donde quien quienes sino pues"),
    asking=_set("cuando donde quien quienes"),
    prepositions=_set(_ES_PREPOSITIONS),
    particles=frozenset(),
    leaning=_set(
        _ES_DETERMINERS, _ES_PREPOSITIONS,
        "de del a al lo y e o u ni pero que si como me te se nos le les no muy más menos tan tanto "
        "también ya aún "
        "es son era eran está están estaba ha han había puede pueden debe deben va van será serán hay "
        "ser estar "
        "yo tú él ella usted ellos ellas ustedes nosotros cuando porque mientras aunque donde gran buen "
        "primer "
        "sr sra dr dra nuevo nueva nuevos nuevas primera último última mismo misma otro otra otros otras",
    ),
    governing=_set(
        "depende dependen cuenta consiste insiste confía piensa pensar sueña pregunta preguntar acaba "
        "acabar "
        "comienza empieza responsable interesado interesada razón conformidad relación acuerdo trata "
        "pasar pasa "
        "entrar entra participar",
    ),
    particle_verbs=frozenset(),
    pairing=_set("entre tanto ni desde"),
    determiners=_set(_ES_DETERMINERS),
    predicates=_set(
        "es son era eran está están ha han puede pueden debe deben será serán permite cuesta "
        "depende",
    ),
    auxiliaries=_set("es son era eran está están fue fueron sido será serán"),
    subjects=_set(
        "yo tú él ella usted nosotros ellos ellas ustedes quien que qué cómo dónde esto eso y o "
        "pero",
    ),
    numerals=_set(
        "uno dos tres cuatro cinco seis siete ocho nueve diez once doce veinte treinta cuarenta cien "
        "mil",
    ),
    hours=_set("las hasta desde"),
)  # fmt: skip

_LANGUAGES: Final[Mapping[str, PhraseWords]] = {
    "en": _ENGLISH, "de": _GERMAN, "fr": _FRENCH, "es": _SPANISH,
}  # fmt: skip

LEANING_ANYWHERE: Final = frozenset().union(*(words.leaning for words in _LANGUAGES.values()))
"""For texts of an unknown language: words that lean on the next one in any of the four."""

INTERJECTIONS_ANYWHERE: Final = frozenset().union(*(words.interjections for words in _LANGUAGES.values()))

_TELLTALE: Final = frozenset("the is are you your to of and it this that we can have with i'm it's".split())
"""Enough of these, and a text of unknown language is English."""


@lru_cache(maxsize=64)
def words_of(language: str) -> PhraseWords | None:
    """Return the words of a BCP 47 `language`; None where none are known."""
    return _LANGUAGES.get(primary_subtag(language))


def guessed(words: Iterable[str]) -> PhraseWords | None:
    """Return English for a text of unknown language whose `words` (lower case) show it; else None."""
    return _ENGLISH if len(_TELLTALE.intersection(words)) >= 2 else None
