"""Room on nodes, and what an autoscaler makes of a load."""

import pytest

from voicemesh.capacity.cluster import request_for, scaled
from voicemesh.capacity.manifests import Pod, Trigger, manifests, nodes_for
from voicemesh.capacity.profile import SERVICES

PODS = {"tts": Pod(1.0, 2.0, 512.0, 512.0), "gateway": Pod(0.5, 2.0, 1024.0, 1024.0)}


@pytest.mark.parametrize(
    ("replicas", "cores", "memory_mib", "nodes"),
    [
        ({"tts": 1, "gateway": 2}, 2.0, None, 1),
        ({"tts": 1, "gateway": 3}, 2.0, None, 2),
        ({"tts": 3, "gateway": 0}, 2.0, None, 2),
        ({"tts": 2, "gateway": 4}, 8.0, 2048.0, 3),  # 5 GiB, and two gateways fill a node
        ({"tts": 0, "gateway": 10_000}, 2.0, None, 2500),
    ],
)
def test_nodes_have_room_for_what_pods_ask_for(replicas, cores, memory_mib, nodes):
    assert nodes_for(PODS, replicas, cores, memory_mib) == nodes


def test_a_pod_that_fits_on_no_node_is_named():
    with pytest.raises(
        ValueError, match=r"a pod of tts asks for 1 CPU and 512 MiB, and fits on no node of 0\.5"
    ):
        nodes_for(PODS, {"tts": 1, "gateway": 1}, 0.5, None)
    with pytest.raises(ValueError, match="of 4 cores and 600 MiB"):
        nodes_for(PODS, {"tts": 1, "gateway": 1}, 4.0, 600.0)


def test_keda_keeps_what_its_threshold_says_within_its_bounds():
    trigger = Trigger(threshold=100.0, spare=0.0, least=2, most=20)
    found = scaled(trigger, 950.0, 7)
    assert (found.wanted, found.pods) == (10, 10)
    assert found.fits == 130.0
    assert -(-950 // 130) >= 7  # a threshold that fits keeps no fewer than were planned
    assert (scaled(trigger, 5000.0, 7).wanted, scaled(trigger, 5000.0, 7).pods) == (50, 20)
    assert scaled(trigger, 0.0, 1).pods == 2
    spare = scaled(Trigger(0.75, 0.75, 2, 20), 3.0, 5)
    assert (spare.counted, spare.pods, spare.fits) == (3.75, 5, 0.75)


def test_requests_are_rounded_up():
    assert (request_for(0.53), request_for(0.55), request_for(1.01)) == (0.55, 0.55, 1.05)


def test_the_copy_of_the_manifests_has_all_services():
    found = manifests()
    assert set(found.keda) == set(SERVICES)
    assert set(SERVICES) < set(found.pods)
    assert all(pod.cpu <= pod.cpu_limit and pod.memory_mib > 0 for pod in found.pods.values())
