"""Which gateway of several is asked, without any."""

import asyncio
from typing import Any, cast

import grpc
import pytest

from tests.support.virtual_time import run_virtual
from voicemesh.client import VoiceMesh
from voicemesh.client.errors import VoiceMeshError, cut_off, lost, unreachable
from voicemesh.client.gateways import Attempts, Gateway, Gateways, addresses_of, is_lost

READY = grpc.ChannelConnectivity.READY
IDLE = grpc.ChannelConnectivity.IDLE
CONNECTING = grpc.ChannelConnectivity.CONNECTING
REFUSED = grpc.ChannelConnectivity.TRANSIENT_FAILURE


class FakeChannel:
    """Goes through states; stays in the last."""

    def __init__(self, *states: grpc.ChannelConnectivity) -> None:
        self._states = list(states)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._states[0]

    async def wait_for_state_change(self, state: grpc.ChannelConnectivity) -> None:
        if len(self._states) == 1:
            await asyncio.sleep(3600)
        self._states.pop(0)


def gateways(**states: tuple[grpc.ChannelConnectivity, ...]) -> Gateways:
    known = [
        Gateway(name, cast("grpc.aio.Channel", cast("Any", FakeChannel(*those))))
        for name, those in states.items()
    ]
    return Gateways(known, asks_again=2, connect_s=1.0)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("localhost:50050", ("localhost:50050",)),
        ("a:1,b:2", ("a:1", "b:2")),
        ("a:1, b:2", ("a:1", "b:2")),
        ("[::1]:1,[::1]:2", ("[::1]:1", "[::1]:2")),
        ("dns:///gateway:50050", ("dns:///gateway:50050",)),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", ("ipv4:10.0.0.1:1,10.0.0.2:1",)),
        ("unix:/run/a.sock,unix:/run/b.sock", ("unix:/run/a.sock", "unix:/run/b.sock")),
        (["a:1", "b:2"], ("a:1", "b:2")),
    ],
)
def test_addresses_of_several_are_parted_by_commas(given, found):
    assert addresses_of(given) == found


@pytest.mark.parametrize("given", ["", "a:1,", [], [""]])
def test_no_address_is_refused(given):
    with pytest.raises(ValueError, match="address"):
        VoiceMesh(given)


@pytest.mark.parametrize("options", [{"asks_again": -1}, {"asks_again": 11}, {"stall_s": 0.7}])
def test_options_that_cannot_be_are_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        VoiceMesh("a:1", **options)


def test_a_turn_is_asked_again_only_so_often_and_only_before_its_first_frame():
    error = unreachable("a:1")
    attempts = Attempts(2)
    assert attempts.metadata() == ()
    assert not attempts.again(error, heard=True)
    assert attempts.again(error, heard=False)
    assert attempts.metadata() == (("voicemesh-attempt", "1"),)
    assert attempts.again(error, heard=False)
    assert not attempts.again(error, heard=False)
    assert not Attempts(0).again(error, heard=False)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (unreachable("a:1"), True),
        (lost("a:1"), True),
        (VoiceMeshError("UNAVAILABLE", "DRAINING", "m"), True),
        (VoiceMeshError("UNAVAILABLE", "DRAINING", "m", retried_by="gateway"), False),
        (VoiceMeshError("UNAVAILABLE", "SERVICE_UNAVAILABLE", "m"), False),
        (VoiceMeshError("RESOURCE_EXHAUSTED", "TOO_MANY_TURNS", "m"), False),
        (VoiceMeshError("INVALID_ARGUMENT", "INVALID_FIELD", "m"), False),
    ],
)
def test_only_a_gateway_that_is_gone_or_going_is_replaced(error, is_it):
    assert is_lost(error) is is_it


def test_the_next_one_that_can_be_reached_is_asked():
    async def ask() -> None:
        all_of_them = gateways(a=(READY,), b=(REFUSED,), c=(IDLE, CONNECTING, READY))
        first = all_of_them.present
        found = await all_of_them.another(first)
        assert found is not None
        assert found.address == all_of_them.present.address == "c"

    run_virtual(ask())


def test_one_that_takes_the_connection_and_says_nothing_is_given_up():
    async def ask() -> None:
        all_of_them = gateways(a=(REFUSED,), hangs=(IDLE, CONNECTING))
        assert await all_of_them.another(all_of_them.present) is None

    run_virtual(ask())


def test_a_name_that_stands_for_several_is_asked_again():
    async def ask() -> None:
        all_of_them = gateways(name=(READY,))
        assert await all_of_them.another(all_of_them.present) is all_of_them.present

    run_virtual(ask())


def test_who_notices_late_that_one_is_lost_does_not_move_from_the_one_behind_it():
    all_of_them = gateways(a=(READY,), b=(READY,))
    first = all_of_them.present
    all_of_them.lost(first)
    all_of_them.lost(first)
    assert all_of_them.present.address == "b"


def test_members_of_a_channel_meet_whatever_they_have_lost_and_in_which_order_they_know_gateways():
    one, other = gateways(a=(READY,), b=(READY,)), gateways(b=(READY,), a=(READY,))
    one.lost(one.present)
    for number in range(20):
        channel = f"class-{number}"
        assert one.home_of(channel).address == other.home_of(channel).address


def test_an_error_in_the_middle_says_how_much_was_heard():
    error = cut_off(lost("a:1"), 1200, 800)
    assert error.heard_ms == 800
    assert "after 1200 ms of audio, of which 800 ms were played" in str(error)
    assert not error.reached
