from gateway.access.caller import Caller, Priority


def test_without_access_control_a_caller_may_do_everything() -> None:
    assert Caller().may("speak")
    assert Caller().priority is max(Priority)


def test_a_caller_with_scopes_may_do_those_alone() -> None:
    caller = Caller(tenant="acme", key_id="shop", scopes=frozenset({"speak"}))
    assert caller.may("speak")
    assert not caller.may("operator")
