"""Which targets are names, and where the processes behind one are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemesh.addresses import Known, Name, name_of

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.10"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("llm:50051", Name("llm", 50051)),
        ("dns:llm:50051", Name("llm", 50051)),
        ("dns:///llm.voicemesh.svc.cluster.local:50051", Name("llm.voicemesh.svc.cluster.local", 50051)),
        ("dns:///llm.voicemesh.:50051", Name("llm.voicemesh.", 50051)),
        ("dns://10.0.0.53/llm:50051", Name("llm", 50051, "10.0.0.53")),
        ("dns://127.0.0.1:5353/llm:50051", Name("llm", 50051, "127.0.0.1", 5353)),
        ("dns://[::1]:5353/llm:50051", Name("llm", 50051, "::1", 5353)),
        ("dns://::1/llm:50051", Name("llm", 50051, "::1")),
    ],
)
def test_a_name_with_a_port_is_followed(target: str, name: Name) -> None:
    assert name_of(target) == name


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051",
        "[::1]:50051",
        "dns:///127.0.0.1:50051",
        "dns:///[::1]:50051",
        "localhost:50051",
        "dns:///localhost.:50051",
        "ipv4:10.0.0.1:1,10.0.0.2:1",
        "ipv6:[::1]:1",
        "unix:/tmp/llm.sock",
        "unix:llm.sock:1",
        "unix-abstract:llm:1",
        "xds:///llm:50051",
        "llm",
        "dns:///llm",
        "llm:0x10",
        "llm:70000",
        "dns://ns.example/llm:50051",
        "dns://10.0.0.53:port/llm:50051",
        "-llm:50051",
        "a,b:1",
        "",
    ],
)
def test_what_stands_for_the_same_for_ever_is_left_to_grpc(target: str) -> None:
    assert name_of(target) is None


def test_calls_are_addressed_to_the_name_as_certificates_have_it() -> None:
    assert Name("llm.voicemesh.", 1).authority == "llm.voicemesh:1"


def test_a_list_for_grpc_is_the_same_whatever_order_an_answer_has() -> None:
    name = Name("llm", 7)
    assert name.target([C, A, B]) == name.target([A, B, C]) == f"ipv4:{A}:7,{B}:7,{C}:7"


def test_a_list_of_both_families_is_one_of_ipv6() -> None:
    name = Name("llm", 7)
    assert name.target(["fd00::2", "fd00::1"]) == "ipv6:[fd00::1]:7,[fd00::2]:7"
    assert name.target(["fd00::1", A]) == f"ipv6:[::ffff:{A}]:7,[fd00::1]:7"


def test_what_is_new_counts_at_once_and_what_is_missing_after_five_lookups() -> None:
    known = Known()
    assert known.hear([A])
    assert known.hear([A, B])
    assert known.addresses == {A, B}
    heard = [known.hear([B]) for _ in range(5)]
    assert heard == [False, False, False, False, True]
    assert known.addresses == {B}


def test_name_servers_that_do_not_agree_yet_change_nothing_to_and_fro() -> None:
    known = Known()
    known.hear([A])
    changes = [known.hear(answer) for answer in [[A, B], [A]] * 20]
    assert changes == [True] + [False] * 39
    assert known.addresses == {A, B}


def test_a_name_that_stands_for_nothing_leaves_what_was_known() -> None:
    known = Known()
    known.hear([A])
    assert not any(known.hear([]) for _ in range(20))
    assert known.addresses == {A}


def test_all_may_be_replaced_at_once() -> None:
    known = Known()
    known.hear([A])
    assert known.hear([B])
    assert known.addresses == {A, B}
    assert [known.hear([B]) for _ in range(4)] == [False, False, False, True]
    assert known.addresses == {B}


@given(st.lists(st.frozensets(st.sampled_from([A, B, C, "fd00::1"]), max_size=4), max_size=40))
def test_known_is_what_the_last_five_answers_had(answers: list[frozenset[str]]) -> None:
    known = Known()
    told: list[frozenset[str]] = []
    for answer in answers:
        before = known.addresses
        changed = known.hear(answer)
        told += [answer] if answer else []
        assert known.addresses == frozenset().union(*told[-5:])
        assert changed == (known.addresses != before)
