"""The limit against a simulated mesh, in virtual time."""

import pytest

from gateway.admission.limit import WINDOW, AdaptiveLimit
from gateway.settings import GatewaySettings
from tests.unit.gateway.admission.world import Mesh

SEEDS = (1, 2, 3, 4, 5)
UNLOADED_P95_MS = 440.0
"""Of what a model thinks, and 50 ms of an engine."""


def capacity(mesh: Mesh) -> float:
    """Return the turns a second that engines can speak."""
    return mesh.slots * 1000 / (sum(mesh.service_ms) / 2) / mesh.chunks


def limit(**changes: float) -> AdaptiveLimit:
    options = {"least": 4, "start": 32, "most": 256, "target_ms": 100.0, **changes}
    return AdaptiveLimit(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunks", [1, 3, 6])
def test_four_times_the_load_that_fits(chunks: int) -> None:
    begun = refused = 0
    for seed in SEEDS:
        mesh = Mesh(seed=seed, chunks=chunks)
        fits = 0.6 * capacity(mesh)
        mesh.load(fits, 0, 30)
        mesh.load(4 * fits, 30, 90)
        mesh.load(fits, 90, 120)
        mesh.run(140_000)

        assert mesh.refusals(0, 30) <= 0.05 * mesh.begun(0, 30)
        # It has learned within ten seconds; from there on who is let in hears nearly as soon as ever.
        assert mesh.p95(40, 90) <= 1.3 * UNLOADED_P95_MS
        assert mesh.begun(40, 90) / 50 >= 0.8 * capacity(mesh)
        # Behind the load it is as before.
        assert mesh.p95(92, 120) <= 1.25 * UNLOADED_P95_MS
        begun += mesh.begun(92, 120)
        refused += mesh.refusals(92, 120)
    assert refused <= 0.1 * begun


def test_engines_without_a_model_in_front_of_them() -> None:
    for seed in SEEDS:
        mesh = Mesh(seed=seed, slots=6, service_ms=(1280, 1290), first_ms=150, llm_ms=(0, 1), chunks=1)
        mesh.load(2.4 * capacity(mesh), 0, 90)
        mesh.run(100_000)

        # Whoever is one too many waits for a sixth of what a slot takes, more than whole turns wait alone.
        waits = mesh.waits(40, 90)
        assert sum(wait > 1.25 * 151 for wait in waits) <= 0.05 * len(waits)
        assert len(waits) / 50 >= 0.9 * capacity(mesh)


def test_it_begins_with_all_places_and_finds_what_fits_within_seconds() -> None:
    for seed in SEEDS:
        mesh = Mesh(seed=seed, slots=6, service_ms=(1280, 1290), first_ms=150, llm_ms=(0, 1), chunks=1)
        mesh.load(10 * capacity(mesh), 0, 10)
        mesh.run(20_000)

        assert mesh.limit_range(4, 10)[1] <= 4 * mesh.slots


@pytest.mark.parametrize("seed", SEEDS)
def test_it_does_not_hunt(seed: int) -> None:
    mesh = Mesh(seed=seed, slots=16)
    mesh.load(4 * capacity(mesh), 0, 120)
    mesh.run(120_000)

    low, high = mesh.limit_range(30, 120)

    assert high <= 2.5 * low


@pytest.mark.parametrize("seed", SEEDS)
def test_outliers_cut_nothing_while_there_is_room(seed: int) -> None:
    mesh = Mesh(seed=seed, outlier_share=0.02, slots=16)
    mesh.load(0.4 * capacity(mesh), 0, 120)
    mesh.run(130_000)

    assert mesh.refusals(0, 120) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slow_model_is_no_overload(seed: int) -> None:
    mesh = Mesh(seed=seed, slots=16)
    mesh.load(0.5 * capacity(mesh), 0, 60)
    mesh.at(20_000, lambda: setattr(mesh, "llm_ms", (6000.0, 9000.0)))
    mesh.run(90_000)

    # Forty turns wait for it at a time, and engines have nothing to do with that.
    assert mesh.limit.cuts == 0
    assert mesh.refusals(0, 60) <= 0.1 * mesh.begun(0, 60)
    assert mesh.limit.turns > 32


@pytest.mark.parametrize("seed", SEEDS)
def test_an_engine_that_is_slow_by_itself_is_no_overload(seed: int) -> None:
    mesh = Mesh(seed=seed, slots=32)
    mesh.load(3, 0, 60)
    mesh.at(20_000, lambda: setattr(mesh, "first_ms", 1500.0))
    mesh.at(20_000, lambda: setattr(mesh, "service_ms", (1600.0, 2200.0)))
    mesh.run(90_000)

    assert mesh.limit.turns >= 16
    assert mesh.refusals(30, 60) <= 0.05 * mesh.begun(30, 60)


def test_it_is_back_when_replicas_are() -> None:
    begun = refused = 0
    for seed in SEEDS:
        mesh = Mesh(seed=seed, slots=16)
        per_s = 0.8 * capacity(mesh)
        mesh.load(per_s, 0, 150)
        mesh.at(20_000, lambda mesh=mesh: setattr(mesh, "slots", 4))  # type: ignore[misc]
        mesh.at(60_000, lambda mesh=mesh: setattr(mesh, "slots", 16))  # type: ignore[misc]
        mesh.run(150_000)

        assert mesh.refusals(30, 60) > 0
        begun += mesh.begun(100, 150)
        refused += mesh.refusals(100, 150)
    assert refused <= 0.05 * begun


def test_it_is_back_though_some_are_always_late() -> None:
    begun = refused = 0
    for seed in SEEDS:
        mesh = Mesh(seed=seed, slots=16, outlier_share=0.02)
        per_s = 0.6 * capacity(mesh)
        mesh.load(per_s, 0, 180)
        mesh.at(20_000, lambda mesh=mesh: setattr(mesh, "slots", 4))  # type: ignore[misc]
        mesh.at(60_000, lambda mesh=mesh: setattr(mesh, "slots", 16))  # type: ignore[misc]
        mesh.run(180_000)

        assert mesh.refusals(30, 60) > 0
        begun += mesh.begun(120, 180)
        refused += mesh.refusals(120, 180)
    assert refused <= 0.05 * begun


def test_turns_from_the_cache_take_little() -> None:
    mesh = Mesh(cached_share=1.0, start=8, least=8)
    mesh.load(200, 0, 10)  # forty at a time, in eight places
    mesh.run(12_000)

    assert not mesh.refused


def test_forty_callers_are_never_refused_as_it_is_set_by_default() -> None:
    least = GatewaySettings.model_fields["gateway_min_turns"].default
    mesh = Mesh(slots=1, least=least)
    for burst in range(10):
        for _ in range(40):
            mesh.at(burst * 60_000, mesh.come)
    mesh.run(600_000)

    assert mesh.limit.cuts > 0
    assert not mesh.refused
    assert len(mesh.turns) == 400


def test_a_trial_that_fails_costs_one_place_and_the_next_one_comes_later() -> None:
    own = limit(start=20)
    now_ns = 1

    def window(late_ms: float) -> int:
        """Have windows pass until the limit is another one; return how many samples that took."""
        nonlocal now_ns
        before, taken = own.epoch, 0
        while own.epoch == before:
            now_ns += 1_000_000
            own.sample(own.epoch, late_ms, own.turns, now_ns, first=True)
            taken += 1
        return taken

    window(150)
    held = own.turns
    waits = []
    for _ in range(4):
        waits.append(window(0))
        assert own.turns == held + 1
        assert window(150) == 1
        assert own.turns == held
    assert waits == [WINDOW, 2 * WINDOW, 4 * WINDOW, 8 * WINDOW]


def test_while_nothing_comes_nothing_changes() -> None:
    own = limit()
    for second in range(100):
        own.ran(0, second * 1_000_000_000)

    assert own.turns == 32
    assert own.epoch == 0


def test_one_crowd_is_judged_once() -> None:
    own = limit()
    for number in range(40):
        own.sample(0, 5000, 30, 1 + number, first=True)

    assert own.cuts == 1
    assert own.turns == pytest.approx(21)


def test_one_that_is_late_decides_nothing() -> None:
    own = limit()
    for number in range(WINDOW):
        own.sample(0, 0 if number else 9000, 5, 1 + number, first=True)

    assert own.turns == 32


def test_refusals_of_the_tts_service_cut_down_to_the_least_and_no_further() -> None:
    own = limit(least=8)
    for number in range(1000):
        own.sample(own.epoch, 10_000, own.turns, 1 + number, first=True)

    assert own.turns == 8


def test_it_never_goes_above_the_places_there_are() -> None:
    own = limit(most=40)
    for number in range(1000):
        own.sample(own.epoch, 0, own.turns, 1 + number, first=True)

    assert own.turns == 40
