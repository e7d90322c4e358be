"""Where a phrase ends, and where none does: the bars say where a pause may be made."""

import pytest

from services.chunker.phrases import Strength, last_word_end, phrase_boundaries

GOOD = {
    "en": [
        "The museum opens at nine | in the morning || and closes | at six | in the evening",
        "When the new release is installed | on the test machine",
        "Your savings account || currently pays 3.5% interest every year",
        "The quickest way to the airport || is the express bus",
        "The weather in London today || is cloudy | with a chance of rain | in the late afternoon",
        "Stir the sauce over a low heat || until it thickens || and take it off the stove",
        "To reset your password go to the settings page || and click on the link | at the bottom",
        "We have to wait for the bus || because the train is not running today",
        "The meeting has been moved to Tuesday | at ten || because the room was not free",
        "She wrote “The Lord of the Sands” || while she had a small flat | in Lyon",
        "The large town hall | (built in 1894 by somebody from the north)",
        "What you are looking for is probably | in the second drawer | on the left",
    ],
    "de": [
        "Bitte schalten Sie das Gerät aus und warten Sie eine Minute || bevor Sie es wieder einschalten",
        "Sie können das Paket | bis Freitag | in der Filiale | am Marktplatz abholen",
    ],
    "fr": [
        "Il faut appuyer sur le bouton rouge | pendant trois secondes || et attendre le signal",
        "Le chemin le plus rapide | pour aller à la gare || est de prendre le bus | devant la mairie",
    ],
    "es": [
        "Hay que pulsar el botón rojo | durante tres segundos || y esperar la señal",
        "La catedral fue construida entre 1248 y 1322 || y es una de las más visitadas",
        "Puede cancelar su pedido | en los dos primeros días | sin pagar nada",
    ],
}
NONE = {
    "en": [
        # too little before
        "The museum and its garden",
        "We go on and on",
        "The museum is closed on Mondays",
        "Marie Curie was born in Warsaw",
        "The train that leaves from platform nine",
        # no two noun phrases beside each other
        "Most of the time the error goes away",
        # what is short for a name
        "Ask the World Health Organization (WHO)",
        # verbs and adjectives with their prepositions
        "It is what everybody has been looking for",
        "Please make sure that you have logged in",
        "I will walk you through it step by step",
        "It all really depends on the weather",
        "Nobody here is responsible for it",
        # pairs, numbers, names, titles
        "It takes between five and six hours",
        "There are one hundred and five of them",
        "My friends like Simon and Garfunkel",
        "My favourite book is The Catcher in the Rye",
        "The statement of the Bank of England",
        "We offer a fast and reliable connection",
        "It costs 12 or 13 euros",
        # between what belongs together
        "I have been to the big old house",
        "He said (as he always does and did) it",
        'He calls it "the best thing in the world"',
        "You should check whether the cable is plugged",
        "Please tell me exactly when the train leaves",
        "Can you turn the radio that is here on",
    ],
    "de": [
        "Frankfurt am Main liegt am Fluss",
        "Das ist ein sehr guter und billiger",
        "Wir warten alle seit gestern auf",
    ],
    "fr": ["Je compte toujours sur toi", "Il est entre cinq et six"],
    "es": ["Todo depende siempre de ti", "Hay entre cinco y seis"],
    "fi": ["Museo avautuu yhdeksältä aamulla ja sulkeutuu kuudelta illalla"],
}


def marked(text: str, language: str) -> str:
    for boundary in reversed(list(phrase_boundaries(text, language))):
        bars = " ||" if boundary.strength is Strength.STRONG else " |"
        text = text[: boundary.end] + bars + text[boundary.end :]
    return text


@pytest.mark.parametrize(
    ("language", "expected"), [(language, text) for language, texts in GOOD.items() for text in texts]
)
def test_a_pause_may_be_made(language: str, expected: str) -> None:
    text = expected.replace(" ||", "").replace(" |", "")
    assert marked(text, language) == expected


@pytest.mark.parametrize(
    ("language", "text"), [(language, text) for language, texts in NONE.items() for text in texts]
)
def test_no_pause_may_be_made(language: str, text: str) -> None:
    assert marked(text, language) == text


def test_a_text_of_unknown_language_is_english_where_its_words_show_it() -> None:
    assert marked("The museum opens at nine in the morning because it is light", "").count("|") == 3
    assert "|" not in marked("Museo on avoinna maanantaisin in on at and because", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("すみませんが今日の予約は全部埋まっています", "すみませんが ||今日の予約は ||全部埋まっています"),
        ("这个问题很好但是答案并不简单", "这个问题很好 ||但是答案并不简单"),
        ("พิพิธภัณฑ์เปิดเวลาเก้าโมงเช้า และปิดเวลาหกโมงเย็น", "พิพิธภัณฑ์เปิดเวลาเก้าโมงเช้า || และปิดเวลาหกโมงเย็น"),
    ],
)
def test_scripts_without_spaces_have_boundaries_of_their_own(text: str, expected: str) -> None:
    assert marked(text, "") == expected


def test_the_word_behind_may_be_at_the_edge_of_the_text_unless_it_often_begins_longer_ones() -> None:
    assert marked("When the new release is installed on", "en").count("|") == 1
    assert marked("We could make a great many calls with", "en").count("|") == 0
    assert marked("We could make a great many calls with ", "en").count("|") == 1
    assert marked("Turn the light in the hall on", "en").count("|") == 0


@pytest.mark.parametrize(
    ("text", "language", "end"),
    [
        ("And the second one will be qui", "en", "And the second one"),
        ("one two three ", "en", "one two three"),
        ("words and more words here ", "fi", "words and more words here"),
        ("The price of it is 1 234 567 ", "en", "The price of it"),
        ("It was painted by Anna Maria Hof", "en", "It was painted"),
        ("of the and with from the", "en", ""),
        ("short", "en", ""),
    ],
)
def test_at_need_a_chunk_ends_behind_a_word_that_leans_on_nothing(text: str, language: str, end: str) -> None:
    found = last_word_end(text, language)
    assert (text[:found] if found > 0 else "") == end
