# ruff: noqa: RUF001, SIM905 - words of other scripts are what is meant; a table of words reads best as words
"""Words that take a full stop without ending a sentence, and how the next word decides.

Languages are mixed in one reply, so the tables of all languages count together; where a language
is known, its own table wins over the others. Words that are also everyday words elsewhere count
only in their own language.
"""

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Final


class Kind(Enum):
    """What the full stop after a word means."""

    TITLE = 1
    """Never an end: a name follows (Dr.)."""
    PLACE = 2
    """An end only before a word that begins sentences (Mt. Fuji; Main St. It …)."""
    INNER = 3
    """Never an end: the sentence goes on (e.g.)."""
    REFERENCE = 4
    """Not an end before a number or a lower-case word (No. 7; but: No. I …)."""
    TAIL = 5
    """An end before a capital (etc.)."""
    TIME = 6
    """As TAIL, but days, months and time zones go on (5 p.m. Monday)."""
    COMPANY = 7
    """As TAIL, but titles and legal forms go on (Hart & Co. Ltd.)."""
    PROPER = 8
    """An end only before a word that begins sentences (the U.S. Senate; the U.S. It …)."""
    DATE = 9
    """Not an end before a number, or another date word (Mon. Jan. 5)."""


_TITLES: Final = """
Dr Drs Mr Mrs Ms Mx Messrs Mme Mmes Mlle Mlles Mgr Msgr Prof Profs Rev Revd Hon Gen Col Maj Capt Cpt
Cmdr Cdr Lt Sgt Cpl Pvt Supt Insp Sen Rep Gov Pres Amb Atty Adm Brig Sra Sras Srta Srtas Dra Dras Sres
Dott Dottssa Sig Sigg Avv Ing Dipl Arq Lic Exmo Exma Ilmo Ilma Hr Frl Univ-Prof Priv-Doz
dhr mevr mw Bp Abp Fr Ud Uds Vd dott dottssa dr mr mrs ms prof
"""
_PLACES: Final = "St Ste Mt Mts Ft Pt Pte"
_INNER: Final = """
e.g i.e eg ie vs cf viz approx ca esp incl excl resp repr cit ibid al.a z.b d.h u.a u.u z.t z.z i.d.r
m.e v.a bzw evtl ggf inkl exkl zzgl vgl sog gegr geb gest ehem insb insbes bes med jur rer
p.ex p.ej c.-à-d càd ej bijv bijvoorbeeld d.w.z o.a m.b.t i.p.v t.a.v т.е т.к т.н т.о ul напр ул просп пер
наб бул пгт пос обл проф акад доц тов ред сост ad.es p.es tzn tzv např tj m.in św inż dr.h.c örn vb bkz
डॉ डा श्री श्रीमती प्रो कु ศ ผศ รศ ดร
"""
_REFERENCES: Final = """
No Nos no nos Nr nr Nrs p pp pg pgs Fig Figs fig figs Vol Vols vol vols Ch Chap ch chap Sec Sect Secs
Art Arts Eq Eqs eq eqs Ex Exs Ref Refs Tab Tabs Par Pars Para Paras Ver ver v vv Op op Abb Abs Bd Bde Kap
Ziff Anm Lfg Hrsg Jg Tel tel Fax Ext ext Apt apt Bldg bldg Rm rm Fl Cra Núm núm Pág pág Págs págs párr párrf
N° n° Nº nº Nro nro Cap Caps № стр пп ст гл кв тел рис табл корп
"""
_TAILS: Final = """
etc usw u.s.w u.ä o.ä u.dgl dgl ff ecc itd itp atd aso enz e.d m.m m.fl osv o.s.v т.д т.п т.д др пр гг вв
руб коп тыс млн млрд чел долл у.е al min max sec secs hr hrs wk wks mo mos yr yrs in. ft oz lb lbs
kg mg km cm mm ml sq cu pt qt gal tsp tbsp mph kph rpm temp avg est dept univ assn ave blvd rd st ln hwy
Av Avda Ave Blvd Rd Ln Hwy Pl Sq Str str Pkwy Cres Ct Est avg km/h
"""
_TIMES: Final = "a.m p.m A.M P.M a.C d.C"
_COMPANIES: Final = "Inc Ltd Corp Co Cos LLC Plc Pty Cie inc ltd corp co plc"
_PROPER: Final = """
Jr Sr. Bros Ph.D PhD M.D D.D.S B.A M.A B.S M.S B.Sc M.Sc LL.B LL.M Ed.D M.B.A Esq D.Phil Ph.d EE.UU
Std Stk Mio Mrd Mill Tsd Jh Jhd Jahrh
"""
_DATES: Final = """
Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun
jan feb mrt apr aug sept okt nov dez dec Okt Dez Mrz Ene Ago Dic янв фев февр апр авг сент сен окт нояб дек
"""

# Everyday words of some other language: they count only where the language of the text is known.
_ONLY_IN: Final[Mapping[str, Mapping[Kind, str]]] = {
    "de": {
        Kind.INNER: "s a d u z o i St Hl Fa lt gem betr einschl kath ev phil",
        Kind.REFERENCE: "S Art Par Abs Satz Nr Bl",
        Kind.TAIL: "Min Sek Mo Di Mi Do Fr Sa So",
    },
    "fr": {
        Kind.TITLE: "M MM Me Mgr Vve",
        Kind.REFERENCE: "art chap p pp t vol n fig",
        Kind.TAIL: "av apr bd env boul",
    },
    "es": {
        Kind.TITLE: "D Sr Sto Sta Ud Uds Vd",
        Kind.REFERENCE: "art cap col fig pág tel",
        Kind.TAIL: "av avda admón",
        Kind.DATE: "ene mar abr ago dic",
    },
    "it": {
        Kind.TITLE: "Sig Egr Gent Spett Dir on geom rag",
        Kind.INNER: "es psicol meteor idraul",
        Kind.REFERENCE: "art cap pag pagg n fig",
        Kind.DATE: "mar gio ven sab dom lun mer gen mag giu lug set ott",
    },
    "pt": {Kind.TITLE: "D Sto Sta V", Kind.REFERENCE: "art cap pág n fig", Kind.TAIL: "av"},
    "nl": {
        Kind.TITLE: "dhr mevr mw dr mr ir ing prof drs",
        Kind.INNER: "bv nl incl excl jl",
        Kind.REFERENCE: "blz art nr hfst",
    },
    "ru": {Kind.INNER: "г-н г-жа", Kind.TAIL: "в"},
    "pl": {Kind.INNER: "ul al pl np tzw im", Kind.REFERENCE: "nr poz art ust"},
    "tr": {Kind.INNER: "Sn Av Doç Yrd", Kind.REFERENCE: "No Md"},
    "sv": {Kind.INNER: "bl.a d.v.s t.ex s.k"},
    "da": {Kind.INNER: "bl.a dvs f.eks"},
    "cs": {Kind.INNER: "např tj tzv"},
}

EXCLAIMING_NAMES: Final = frozenset({"Yahoo", "Yum", "Jeopardy", "Oklahoma", "Panic", "Airplane", "Kung"})
"""Names that end in an exclamation mark."""

STARTERS: Final = frozenset(
    """
A An The This That These Those It Its He She We They You I My Your His Her Our Their There Here What When
Where Who Whom Whose Why How Which If In On At As But And Or So Then Thus Hence However Also After Before
Because Since While Although Though Yet Now Is Are Was Were Am Do Does Did Can Could Would Should Have Has
Had Let Lets Not No Yes For From With Without To By Of Some Many Most Each Every Both Next Finally Maybe
Perhaps Please Once Until Unless Later Today Tomorrow Yesterday Really Well Ok OK Okay Sure Thanks Moreover
Meanwhile Instead Otherwise Therefore Still Just Even Only Never Always Sometimes Soon Another Nobody Everyone
Someone Something Nothing Everything Everybody Mr Mrs Ms Wherever Whenever Will Shall Might Must Add Take Use
Try Go See Look Ask Tell Give Make Come
Der Die Das Ein Eine Einen Er Sie Es Wir Ich Ihr Dann Und Aber Oder Wenn Wer Wie Wo Warum Danach Dort
Heute Im Am Auf Bei Mit Nach Für Nun Jetzt Dies Diese Dieser Dieses Doch Denn Nein Ja Auch Vom Beim Seit
Il Elle Ils Elles Nous Vous Je Tu Ce Cet Cette Ces Puis Ensuite Mais Donc Quand Alors Très Où Oui Non
Ella Ellos Ellas Yo Nosotros Usted Ustedes Pero Entonces Luego Cuando Aquí Allí Este Esta Eso Sí También
Eles Elas Você Mas Então Quando Isso Isto Não Sim
Lui Lei Loro Noi Io Poi Quindi Questo Questa Anche Sono Allora
Het Een Hij Zij Wij Ik Maar Dus Daarna Dit Dat Deze
Он Она Они Оно Мы Вы Я Ты Это Этот Эта Но А И Потом Затем Если Когда Что Как Где Там Тут Здесь В На Кто
Почему Сейчас Теперь Да Нет Тогда Мой Моя Наш Его Её Их
""".split()
)
"""Words that begin sentences and are hardly ever names."""

DAYS_AND_MONTHS: Final = frozenset(
    """
January February March April May June July August September October November December
Monday Tuesday Wednesday Thursday Friday Saturday Sunday
Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun
Januar Jänner Februar Feber März Mai Juni Juli Oktober Dezember Okt Dez
Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonnabend Sonntag
""".split()
)

AFTER_TIME: Final = DAYS_AND_MONTHS | frozenset(
    "EST EDT CST CDT PST PDT MST MDT GMT UTC CET CEST BST IST JST ET PT CT MT AEST Eastern Pacific Central "
    "Mountain Greenwich".split()
)

AFTER_COMPANY: Final = frozenset(
    "Ltd Limited Inc LLC KG GmbH AG SA Pty Plc CEO CFO CTO COO Chairman Chairwoman President Chief Director "
    "Vice Executive Founder".split()
)

ORDINAL_NOUNS: Final = frozenset(
    "Jahrhundert Jahrhunderts Jahrhunderten Jahrtausend Weltkrieg Weltkriegs Stock Stockwerk Etage Klasse "
    "Kapitel Platz Tag Mal Auflage Bundesliga Liga Geburtstag Semester Quartal Halbjahr Runde Lebensjahr "
    "OG UG".split()
)

ORDINAL_ARTICLES: Final = frozenset("der dem den des das die am im vom zum zur beim ins ab bis seit".split())
"""German words before an ordinal (am 3. Oktober)."""

LABELS: Final = frozenset(
    """
answer option plan vitamin type class group grade section part team hepatitis appendix exhibit figure letter
level size category choice question item point line route gate zone block column row table schedule area
building hall room unit variable player person side model formula note key string drive
antwort lösung variante klasse typ teil gruppe plan punkt buchstabe opción respuesta grupo parte réponse
groupe partie option opzione gruppo antwoord optie groep
""".split()
)
"""Words before a letter that is a label, not an initial (the answer is A; vitamin C)."""


class Table(dict[str, Kind]):
    """Abbreviation → kind, for one language."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        super().__init__(kinds)
        self.seen: dict[str, Kind | None] = {}
        """Words that were looked up; who fills it bounds it."""


def _fill(table: dict[str, Kind], kind: Kind, words: str) -> None:
    for word in words.split():
        table[word.removesuffix(".")] = kind


def _common() -> dict[str, Kind]:
    table: dict[str, Kind] = {}
    for kind, words in (
        (Kind.TAIL, _TAILS),
        (Kind.INNER, _INNER),
        (Kind.REFERENCE, _REFERENCES),
        (Kind.DATE, _DATES),
        (Kind.TIME, _TIMES),
        (Kind.COMPANY, _COMPANIES),
        (Kind.TITLE, _TITLES),
        (Kind.PLACE, _PLACES),
        (Kind.PROPER, _PROPER),
    ):
        _fill(table, kind, words)
    return table


@lru_cache(maxsize=64)
def table_for(language: str) -> Table:
    """Return abbreviation → kind for a BCP 47 `language` ("" where it is unknown)."""
    table = _common()
    for kind, words in _ONLY_IN.get(primary_subtag(language), {}).items():
        _fill(table, kind, words)
    return Table(table)


def primary_subtag(language: str) -> str:
    """Return the language alone: "de" of "de-AT"."""
    return language.replace("_", "-").partition("-")[0].lower()


def find(table: Mapping[str, Kind], word: str) -> Kind | None:
    """Return what the full stop after `word` (given without it) means, None where it is no abbreviation.

    A word in lower case in the table also counts with a capital ("Approx."), dotted ones in any
    case ("P.M."); one with a capital only so ("Sun." is a day, "sun." is not).
    """
    kind = table.get(word)
    if kind is not None or not word:
        return kind
    if "." in word:
        return table.get(word.lower())
    if word[0].isupper():
        if word[1:].islower():
            return table.get(word.lower())
        if word.isupper():
            kind = table.get(word.capitalize())
            return kind if kind in (Kind.TITLE, Kind.COMPANY) else None
    return None
