"""Where the processes of a mesh are, and what they are told."""

import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from voicemesh.cli import plan as under_test
from voicemesh.cli.checkout import SERVERS, find_checkout, missing_servers
from voicemesh.cli.exits import UNREACHABLE, USAGE, Failure
from voicemesh.cli.plan import DEFAULT_LISTEN, METRICS_PORT, plan, plan_on_free_ports

ROOT = Path("/checkout")


def checkout(folder: Path, *without: str) -> Path:
    for module in SERVERS.values():
        if module not in without:
            path = folder.joinpath(*module.split("."), "__main__.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return folder


def test_the_default_addresses_are_those_of_the_documents():
    assert plan(ROOT, {}).listen == DEFAULT_LISTEN
    assert [address.rpartition(":")[2] for address in DEFAULT_LISTEN.values()] == [
        "50050", "50051", "50052", "50053", "50054", "8080",
    ]  # fmt: skip


def test_the_children_are_told_where_all_of_them_are():
    specs = plan(ROOT, {}).specs({"PATH": "/bin", "OPENAI_API_KEY": "k"})
    assert [spec.name for spec in specs] == ["cache", "llm", "chunker", "tts", "gateway"]
    gateway = specs[-1]
    assert gateway.argv == (sys.executable, "-m", "gateway")
    assert gateway.address == "127.0.0.1:50050"
    assert gateway.cwd == ROOT
    assert gateway.env["VOICEMESH_TTS_ADDR"] == "127.0.0.1:50053"
    assert gateway.env["VOICEMESH_HTTP_LISTEN"] == "127.0.0.1:8080"
    assert gateway.env["VOICEMESH_EXIT_WITH_STDIN"] == "true"
    assert "OPENAI_API_KEY" not in gateway.env
    assert specs[1].env["OPENAI_API_KEY"] == "k"


def test_what_the_environment_says_is_respected():
    environment = {
        "VOICEMESH_TTS_LISTEN": "0.0.0.0:7003",
        "VOICEMESH_CACHE_LISTEN": "[::]:7004",
        "VOICEMESH_LLM_ADDR": "elsewhere:50051",
    }
    mesh = plan(ROOT, environment)
    env = mesh.specs(environment)[0].env
    assert env["VOICEMESH_TTS_LISTEN"] == "0.0.0.0:7003"
    assert env["VOICEMESH_TTS_ADDR"] == "127.0.0.1:7003"
    assert env["VOICEMESH_CACHE_ADDR"] == "127.0.0.1:7004"
    assert env["VOICEMESH_LLM_ADDR"] == "elsewhere:50051"
    assert mesh.specs(environment, override=True)[0].env["VOICEMESH_LLM_ADDR"] == "127.0.0.1:50051"


def test_port_0_is_refused():
    with pytest.raises(Failure, match="VOICEMESH_TTS_LISTEN") as caught:
        plan(ROOT, {"VOICEMESH_TTS_LISTEN": "127.0.0.1:0"})
    assert caught.value.status == USAGE


@pytest.mark.parametrize("address", ["127.0.0.1:65536", "[::1]:100000"])
def test_a_port_that_cannot_be_is_refused_with_those_that_can(address):
    with pytest.raises(Failure, match=r"VOICEMESH_HTTP_LISTEN.*1 to 65535") as caught:
        plan(ROOT, {"VOICEMESH_HTTP_LISTEN": address})
    assert caught.value.status == USAGE


def test_free_ports_are_all_different():
    assert len(set(plan_on_free_ports(ROOT).listen.values())) == len(DEFAULT_LISTEN)


def test_a_checkout_is_found(tmp_path):
    whole = checkout(tmp_path / "whole")
    part = checkout(tmp_path / "part", "services.tts")
    assert find_checkout((part, whole)) == whole
    assert missing_servers(part) == ["services.tts"]


def test_without_a_checkout_it_says_what_is_missing(tmp_path):
    part = checkout(tmp_path / "part", "services.tts", "gateway")
    with pytest.raises(Failure, match="servers run from a checkout or an image") as caught:
        find_checkout((tmp_path / "nothing", part))
    assert "missing: services.tts, gateway" in caught.value.message
    assert caught.value.status == UNREACHABLE


def test_prometheus_scrapes_each_process_at_a_port_of_its_own():
    mesh = plan(ROOT, {}, metrics_port=19450)
    assert mesh.scraped() == {
        "gateway": "127.0.0.1:19450",
        "llm": "127.0.0.1:19451",
        "chunker": "127.0.0.1:19452",
        "tts": "127.0.0.1:19453",
        "cache": "127.0.0.1:19454",
    }
    env = mesh.specs({})[0].env
    assert env["VOICEMESH_GATEWAY_METRICS_LISTEN"] == "127.0.0.1:19450"
    assert env["VOICEMESH_CACHE_METRICS_LISTEN"] == "127.0.0.1:19454"


def test_nothing_is_scraped_at_port_0():
    mesh = plan(ROOT, {}, metrics_port=0)
    assert mesh.scraped() == {}
    assert mesh.specs({})[0].env["VOICEMESH_GATEWAY_METRICS_LISTEN"] == ""


def test_where_prometheus_scrapes_can_be_named():
    environment = {"VOICEMESH_TTS_METRICS_LISTEN": "0.0.0.0:7005", "VOICEMESH_LLM_METRICS_LISTEN": ""}
    mesh = plan(ROOT, environment, metrics_port=19450)
    assert mesh.scraped()["tts"] == "127.0.0.1:7005"
    assert "llm" not in mesh.scraped()
    env = mesh.specs(environment)[0].env
    assert env["VOICEMESH_TTS_METRICS_LISTEN"] == "0.0.0.0:7005"
    assert env["VOICEMESH_LLM_METRICS_LISTEN"] == ""


def test_a_metrics_port_that_somebody_has_stops_nobody_unless_it_was_asked_for(monkeypatch):
    monkeypatch.setattr(under_test, "is_free", lambda address: address != f"127.0.0.1:{METRICS_PORT + 3}")
    mesh = plan(ROOT, {}, metrics_port=None)
    assert mesh.unscraped == ("tts",)
    assert sorted(mesh.scraped()) == ["cache", "chunker", "gateway", "llm"]
    mesh.check_free()
    asked = plan(ROOT, {}, metrics_port=METRICS_PORT)
    with pytest.raises(Failure, match=r"127\.0\.0\.1:9453 \(metrics of tts\)"):
        asked.check_free()


def test_port_0_is_refused_for_metrics_too():
    with pytest.raises(Failure, match="VOICEMESH_TTS_METRICS_LISTEN"):
        plan(ROOT, {"VOICEMESH_TTS_METRICS_LISTEN": "127.0.0.1:0"})


def test_free_ports_can_be_scraped():
    assert plan_on_free_ports(ROOT).scraped() == {}
    mesh = plan_on_free_ports(ROOT, scraped=True)
    assert len({*mesh.listen.values(), *mesh.scraped().values()}) == len(mesh.listen) + 5


def test_who_has_free_ports_already_is_not_told_to_ask_for_them():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        free = plan_on_free_ports(ROOT)
        with pytest.raises(Failure) as caught:
            replace(free, metrics={"gateway": address}).check_free()
        assert "--metrics-port" in (caught.value.hint or "")
        assert "--free-ports" not in (caught.value.hint or "")
        with pytest.raises(Failure) as caught:
            replace(free, metrics={"gateway": address}, on_free_ports=False).check_free()
        assert "--free-ports" in (caught.value.hint or "")


def test_replicas_are_ten_ports_apart_and_the_gateway_knows_all_of_them():
    environment = {"VOICEMESH_REDIS_URL": "redis://127.0.0.1:6379"}
    mesh = plan(ROOT, environment, metrics_port=19450, replicas=3)
    specs = {spec.name: spec for spec in mesh.specs(environment)}
    assert len(specs) == 15
    assert specs["tts-3"].address == "127.0.0.1:50073"
    assert specs["tts-3"].argv == specs["tts"].argv
    assert specs["tts-3"].env["VOICEMESH_TTS_LISTEN"] == "127.0.0.1:50073"
    assert specs["tts-3"].env["VOICEMESH_TTS_METRICS_LISTEN"] == "127.0.0.1:19473"
    for gateway in ("gateway", "gateway-2", "gateway-3"):
        assert specs[gateway].front
        target = "ipv4:127.0.0.1:50053,127.0.0.1:50063,127.0.0.1:50073"
        assert specs[gateway].env["VOICEMESH_TTS_ADDR"] == target
    assert specs["gateway-2"].env["VOICEMESH_HTTP_LISTEN"] == "127.0.0.1:8090"
    assert mesh.addresses("gateway") == ["127.0.0.1:50050", "127.0.0.1:50060", "127.0.0.1:50070"]
    assert [spec.name for spec in mesh.specs(environment) if spec.front] == [
        "gateway", "gateway-2", "gateway-3",
    ]  # fmt: skip


def test_caches_that_share_nothing_are_not_replicated():
    mesh = plan(ROOT, {}, replicas=2)
    assert mesh.addresses("cache") == ["127.0.0.1:50054"]
    assert len(mesh.addresses("tts")) == 2


def test_replicas_on_free_ports():
    mesh = plan_on_free_ports(ROOT, scraped=True, replicas=2, shared_cache=True)
    assert len({*mesh.listen.values(), *mesh.scraped().values()}) == 2 * len(DEFAULT_LISTEN) + 10


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("0.0.0.0:7003", "ipv4:127.0.0.1:7003,127.0.0.1:7013"),
        ("[::1]:7003", "ipv6:[::1]:7003,[::1]:7013"),
        ("unix:/run/tts.sock", "unix:/run/tts.sock,/run/tts.sock-2"),
    ],
)
def test_replicas_are_told_in_the_way_of_their_addresses(listen, target):
    assert plan(ROOT, {"VOICEMESH_TTS_LISTEN": listen}, replicas=2).target("tts") == target


def test_a_name_cannot_stand_for_several_ports():
    mesh = plan(ROOT, {"VOICEMESH_TTS_LISTEN": "localhost:7003"}, replicas=2)
    with pytest.raises(Failure, match=r"VOICEMESH_TTS_LISTEN.*IP address") as caught:
        mesh.specs({})
    assert caught.value.status == USAGE


def test_replicas_that_come_to_one_address_are_refused():
    environment = {"VOICEMESH_LLM_LISTEN": "127.0.0.1:7000", "VOICEMESH_TTS_LISTEN": "127.0.0.1:7010"}
    plan(ROOT, environment)
    with pytest.raises(Failure, match=r"VOICEMESH_(LLM|TTS)_LISTEN.*127\.0\.0\.1:7010") as caught:
        plan(ROOT, environment, replicas=2)
    assert "--free-ports" in (caught.value.hint or "")
