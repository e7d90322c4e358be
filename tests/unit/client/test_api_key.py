import pytest

from voicemesh.client import VoiceMesh
from voicemesh.client.api_key import is_local, metadata_of


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:50050", True),
        ("localhost:50050", True),
        ("localhost", True),
        ("[::1]:50050", True),
        ("unix:/run/mesh.sock", True),
        ("unix-abstract:mesh", True),
        ("dns:///localhost:50050", True),
        ("ipv4:127.0.0.1:50050,127.0.0.2:50050", True),
        ("ipv6:[::1]:50050", True),
        ("ipv4:127.0.0.1:50050,192.0.2.1:50050", False),
        ("mesh.example:50050", False),
        ("localhost.example:50050", False),
        ("dns:///mesh.example:50050", False),
        ("dns://localhost/mesh.example:50050", False),
        ("192.0.2.1:50050", False),
        ("0.0.0.0:50050", False),
        ("dns:50050", False),
        ("", False),
    ],
)
def test_what_is_on_this_machine_is_known(target: str, local: bool) -> None:
    assert is_local(target) is local


def test_a_key_goes_to_other_machines_with_tls_or_by_leave_alone() -> None:
    shown = (("authorization", "Bearer vmk_a_b"),)

    def of(address: str, *, encrypted: bool = False, allow_plain: bool = False) -> object:
        return metadata_of("vmk_a_b", ["127.0.0.1:1", address], encrypted=encrypted, allow_plain=allow_plain)

    assert of("localhost:1") == shown
    assert of("mesh.example:1", encrypted=True) == shown
    assert of("mesh.example:1", allow_plain=True) == shown
    with pytest.raises(ValueError, match=r"mesh\.example:1 without TLS") as raised:
        of("mesh.example:1")
    assert "vmk_" not in str(raised.value)
    assert metadata_of("", ["mesh.example:1"], encrypted=False, allow_plain=False) == ()


@pytest.mark.parametrize("key", ["a b", "vmk_a_b\n", "ключ", "x" * 8193])
def test_what_is_no_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="api_key: must be at most") as raised:
        VoiceMesh(api_key=key)
    assert key not in str(raised.value)


def test_a_client_does_not_tell_its_key() -> None:
    mesh = VoiceMesh(api_key="vmk_a_secret")
    assert "secret" not in repr(mesh)
    assert "secret" not in str(mesh)
