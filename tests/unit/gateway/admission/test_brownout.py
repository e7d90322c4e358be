import itertools

from gateway.admission.brownout import BrownOut, Step

STEPS = (Step.LONGER_CHUNKS, Step.CHEAPER_VOICE, Step.CACHED_ONLY)
TENTH_NS = 100_000_000


def play(own: BrownOut, share: float, seconds: float, at_ns: int = 1) -> int:
    """Have a share of the limit used for so long; return the time behind it."""
    for _ in range(round(seconds * 10)):
        own.uses(share, at_ns)
        at_ns += TENTH_NS
    own.uses(share, at_ns)
    return at_ns


def test_steps_are_taken_in_order_and_left_in_the_opposite_one() -> None:
    own, seen = BrownOut(STEPS), []
    at_ns = 1
    for share in (0.5, 0.8, 0.9, 1.0, 0.83, 0.72, 0.6, 0.5):
        at_ns = play(own, share, 4, at_ns)
        seen.append(own.level)

    assert seen == [0, 1, 2, 3, 3, 2, 1, 0]
    assert own.steps == ()


def test_a_moment_takes_no_step() -> None:
    own = BrownOut(STEPS)
    at_ns = play(own, 0.2, 10)
    at_ns = play(own, 1.0, 0.2, at_ns)
    at_ns = play(own, 0.2, 10, at_ns)

    assert own.level == 0


def test_it_does_not_flap_at_a_threshold() -> None:
    own, changes, at_ns = BrownOut(STEPS), [], 1
    for number in range(100):
        at_ns = play(own, 0.72 if number % 2 else 0.78, 1, at_ns)
        changes.append(own.level)

    assert sum(a != b for a, b in itertools.pairwise(changes)) <= 1


def test_without_steps_it_is_off() -> None:
    own = BrownOut(())
    play(own, 1.0, 10)
    assert own.level == 0
