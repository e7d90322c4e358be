"""What counts as equal, and that nothing else does."""

import fnmatch
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache import keys
from services.cache.keys import AudioKey, GenerationParameters, HistoryKey, ReplyKey, Selector, stored_key
from services.cache.values import ROLE_ASSISTANT, ROLE_SYSTEM, ROLE_USER, AudioFormat, Image, Message
from tests.unit.cache.values_for_tests import FORMAT, audio_key, history_key
from voicemesh.runtime.errors import InvalidFieldError

AUDIO = AudioKey("espeak", "r1", "espeak/en", "en", 1000, FORMAT, "Hello, world.", "acme")
REPLY = ReplyKey(
    "acme",
    "openai:v1",
    "gpt",
    GenerationParameters(max_tokens=10, temperature=0.5, stop=("a", "b"), seed=1),
    (Message(ROLE_SYSTEM, ("Be brief.",)), Message(ROLE_USER, ("What is  rain?",))),
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
canonicals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)


def name(key: keys.Key) -> str:
    return stored_key(key, "get.key", max_text_chars=1000).name


@pytest.mark.parametrize(
    "other",
    [
        replace(AUDIO, engine="simulated"),
        replace(AUDIO, model_revision="r2"),
        replace(AUDIO, voice="espeak/de"),
        replace(AUDIO, language="en-GB"),
        replace(AUDIO, speed_permille=1001),
        replace(AUDIO, format=AudioFormat(1, 24000, 1)),
        replace(AUDIO, format=AudioFormat(2, 22050, 1)),
        replace(AUDIO, format=AudioFormat(1, 22050, 2)),
        replace(AUDIO, text="Hello, world!"),
        replace(AUDIO, text="Hello,  world."),
        replace(AUDIO, text="hello, world."),
        replace(AUDIO, tenant=""),
    ],
)
def test_every_field_of_an_audio_key_counts(other: AudioKey) -> None:
    assert name(other) != name(AUDIO)


def test_defaults_of_a_format_are_written_out() -> None:
    assert name(replace(AUDIO, format=AudioFormat(0, 22050, 0))) == name(AUDIO)


def last(*parts: str | Image) -> tuple[Message, ...]:
    return (REPLY.messages[0], Message(ROLE_USER, parts))


@pytest.mark.parametrize(
    "other",
    [
        replace(REPLY, tenant="other"),
        replace(REPLY, llm_revision="openai:v2"),
        replace(REPLY, model=""),
        replace(REPLY, parameters=replace(REPLY.parameters, max_tokens=None)),
        replace(REPLY, parameters=replace(REPLY.parameters, temperature=0.0)),
        replace(REPLY, parameters=replace(REPLY.parameters, temperature=None)),
        replace(REPLY, parameters=replace(REPLY.parameters, top_p=0.5)),
        replace(REPLY, parameters=replace(REPLY.parameters, stop=("ab",))),
        replace(REPLY, parameters=replace(REPLY.parameters, seed=None)),
        replace(REPLY, messages=REPLY.messages[1:]),
        replace(REPLY, messages=last("What is RAIN?")),
        replace(REPLY, messages=last("What is rain")),
        replace(REPLY, messages=(*REPLY.messages, Message(ROLE_ASSISTANT, ("Water.",)))),
        replace(REPLY, messages=last("What is ra in?")),
        replace(REPLY, messages=last("What is", "rain?")),
        replace(REPLY, messages=last("What is rain?", Image(data=b"1", media_type="image/png"))),
        replace(REPLY, messages=last("What is rain?", Image(url="1", media_type="image/png"))),
        replace(REPLY, messages=(Message(ROLE_ASSISTANT, ("Be brief.",)), REPLY.messages[1])),
        replace(REPLY, messages=(Message(ROLE_SYSTEM, ("Be  brief.",)), REPLY.messages[1])),
    ],
)
def test_everything_of_a_reply_key_counts(other: ReplyKey) -> None:
    assert name(other) != name(REPLY)


@pytest.mark.parametrize("typed", ["what is rain?", "  What\tis   rain? \n ", "What\u00a0is rain ?"])
def test_how_a_prompt_was_typed_does_not_count(typed: str) -> None:
    assert name(replace(REPLY, messages=last(typed))) == name(REPLY)


def test_only_what_the_user_typed_is_folded_and_all_of_it() -> None:
    def ask(first: str, reply: str, second: str) -> str:
        spoken = (Message(ROLE_USER, (first,)), Message(ROLE_ASSISTANT, (reply,)))
        return name(replace(REPLY, messages=(*spoken, Message(ROLE_USER, (second,)))))

    assert ask("A  dog", "Yes.", "Why so?") == ask("A dog", "Yes.", "why so ?")
    assert ask("a dog", "Yes.", "Why?") != ask("a dog", "yes.", "Why?")
    assert ask("a dog", "Yes.", "Why?") != ask("a dog", "Yes. ", "Why?")
    assert ask("a dog", "Yes.", "Why?") != ask("a cat", "Yes.", "Why?")


def test_each_way_to_fold_has_keys_of_its_own() -> None:
    lower = replace(REPLY, messages=last("what is rain"))
    found = {
        (match, stored_key(key, "key", max_text_chars=1000, match=match).name)
        for match in ("exact", "typing", "loose")
        for key in (REPLY, lower)
    }
    assert len({stored for _, stored in found}) == 5
    assert len({stored for match, stored in found if match == "loose"}) == 1


@given(canonicals, canonicals)
def test_different_values_have_different_bytes(one: keys.Canonical, other: keys.Canonical) -> None:
    same = keys.canonical(one) == keys.canonical(other)
    # repr tells 1 from True and from 1.0, as the encoding does; 0.0 and -0.0 mean the same.
    assert same == (repr(one).replace("-0.0", "0.0") == repr(other).replace("-0.0", "0.0"))


@given(texts.filter(bool), texts.filter(bool), texts, texts)
def test_borders_between_fields_count(engine: str, revision: str, language: str, tenant: str) -> None:
    key = replace(AUDIO, engine=engine, model_revision=revision, language=language, tenant=tenant)
    moved = replace(key, engine=engine + revision[:1], model_revision=revision[1:] or "x")
    assert name(key) != name(moved)


def test_nothing_can_be_read_from_a_stored_name() -> None:
    for stored in (name(AUDIO), name(REPLY), name(HistoryKey("acme", "session-7"))):
        assert stored.startswith("voicemesh:v3:")
        for secret in ("Hello", "rain", "acme", "espeak", "session", "r1"):
            assert secret not in stored.removeprefix("voicemesh:v3:audio")


@pytest.mark.parametrize(
    ("key", "field"),
    [
        (replace(AUDIO, engine=""), "get.key.audio.engine"),
        (replace(AUDIO, voice=""), "get.key.audio.voice"),
        (replace(AUDIO, model_revision=""), "get.key.audio.model_revision"),
        (replace(AUDIO, text=""), "get.key.audio.text"),
        (replace(AUDIO, text="x" * 1001), "get.key.audio.text"),
        (replace(AUDIO, speed_permille=0), "get.key.audio.speed_permille"),
        (replace(AUDIO, tenant="x" * 513), "get.key.audio.tenant"),
        (replace(REPLY, llm_revision=""), "get.key.reply.llm_revision"),
        (replace(REPLY, messages=()), "get.key.reply.messages"),
        (replace(REPLY, messages=(Message(0, ("a",)),)), "get.key.reply.messages[0].role"),
        (replace(REPLY, messages=(Message(1, ()),)), "get.key.reply.messages[0].parts"),
        (
            replace(REPLY, parameters=GenerationParameters(temperature=float("nan"))),
            "get.key.reply.parameters.temperature",
        ),
        (HistoryKey("acme", ""), "get.key.history.session_id"),
    ],
)
def test_an_unusable_key_names_its_field(key: keys.Key, field: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        name(key)
    assert caught.value.field == field


def test_a_selector_can_be_of_one_tenant_alone() -> None:
    ours, theirs = audio_key(voice="v", tenant="acme"), audio_key(voice="v", tenant="other")
    for target, named in (("voice", "v"), ("tag", "lesson"), ("all", "")):
        selector = keys.select(target, named, "acme")  # type: ignore[arg-type] # they are targets
        tags = (keys.tag("lesson"),)
        assert selector.matches(ours, tags)
        assert not selector.matches(theirs, tags)
        assert fnmatch.fnmatchcase(ours.name, selector.pattern)
        assert not fnmatch.fnmatchcase(theirs.name, selector.pattern)
    assert keys.select("voice", "v", "").matches(audio_key(voice="v"))
    assert not keys.select("voice", "v", "").matches(ours)


def test_a_tag_matches_what_has_it_and_what_may_have_it() -> None:
    selector = keys.select("tag", "lesson")
    assert selector.matches(audio_key(), (keys.tag("other"), keys.tag("lesson")))
    assert not selector.matches(audio_key(), (keys.tag("other"),))
    assert not selector.matches(audio_key(), ())
    assert selector.matches(audio_key())  # not known yet


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([""], r"tags\[0\]: must not be empty"),
        (["ok", "x" * 129], r"tags\[1\]: has 129 characters; the limit is 128"),
        ([str(number) for number in range(9)], "has 9 tags; the limit is 8"),
    ],
)
def test_tags_that_cannot_be_are_told_why(names: list[str], said: str) -> None:
    with pytest.raises(InvalidFieldError, match=said):
        keys.checked_tags(names, "tags")


def test_a_tag_counts_once() -> None:
    assert keys.checked_tags(["a", "b", "a"], "tags") == (keys.tag("a"), keys.tag("b"))


def test_selectors_match_what_they_name() -> None:
    ours = audio_key(voice="v1", revision="r1", tenant="acme")
    theirs = audio_key(voice="v2", revision="r2", tenant="other")
    for selector in (
        keys.select("voice", "v1"),
        keys.select("model_revision", "r1"),
        keys.select("tenant", "acme"),
        Selector("key", ours.name),
    ):
        assert fnmatch.fnmatchcase(ours.name, selector.pattern)
        assert not fnmatch.fnmatchcase(theirs.name, selector.pattern)
        assert selector.matches(ours)
        assert not selector.matches(theirs)
    assert Selector("all").matches(theirs)
    assert not keys.select("voice", "v1").matches(history_key())
    assert keys.select("tenant", "").matches(history_key())
    with pytest.raises(InvalidFieldError):
        keys.select("voice", "")
