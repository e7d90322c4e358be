"""Accounts of engine time."""

from voicemesh.fairness import EQUAL_NS, Shares

MS = 1_000_000


def test_one_alone_is_never_ahead():
    shares = Shares()
    account = shares.open("a")
    shares.want(account)
    for _ in range(100):
        shares.charge([account], 50 * MS)
        assert shares.ahead(account) == 0


def test_who_had_more_is_ahead_until_the_others_had_as_much():
    shares = Shares()
    greedy, other = shares.open("greedy"), shares.open("other")
    for account in (greedy, other):
        shares.want(account)
    shares.charge([greedy], 100 * MS)
    assert shares.ahead(greedy) * EQUAL_NS == 50 * MS
    assert shares.ahead(other) == 0
    shares.charge([other], 100 * MS)
    assert shares.ahead(greedy) == 0


def test_a_batch_is_split_and_callers_in_it_twice_pay_twice():
    shares = Shares()
    one, two, third = (shares.open(name) for name in ("one", "two", "third"))
    for account in (one, two, third):
        shares.want(account)
    shares.charge([one, one, two], 300 * MS)
    assert [shares.ahead(account) * EQUAL_NS for account in (one, two, third)] == [100 * MS, 0, 0]


def test_what_was_not_wanted_is_not_kept_for_later():
    shares = Shares()
    busy, idle = shares.open("busy"), shares.open("idle")
    shares.want(busy)
    shares.charge([busy], 1000 * MS)
    shares.want(idle)
    shares.charge([idle], 100 * MS)
    assert shares.ahead(idle) * EQUAL_NS == 50 * MS


def test_callers_that_are_gone_are_forgotten():
    shares = Shares()
    stays = shares.open("stays")
    shares.want(stays)
    for n in range(10_000):
        account = shares.open(f"{n}")
        shares.want(account)
        shares.charge([account], MS)
        shares.unwant(account)
        shares.close(account)
        shares.charge([stays], MS)
    assert len(shares._accounts) < 200
    assert shares.ahead_of("nobody") == 0


def test_an_account_is_put_right():
    shares = Shares()
    one, two = shares.open("one"), shares.open("two")
    shares.want(one)
    shares.want(two)
    shares.charge([one], 100 * MS)
    shares.correct(one, -100 * MS)
    assert shares.ahead(one) == 0
