"""Who is let in by a token, and by whose keys it is checked."""

import base64
import json
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.access import guard as guards
from gateway.access import jwks as jwks_module
from gateway.access.caller import Priority
from gateway.access.guard import Access
from gateway.access.jwks import Jwks, JwksError
from gateway.settings import GatewaySettings
from tests.unit.gateway.access.harness import (
    AUDIENCE,
    ISSUER,
    T0,
    Wall,
    admitted,
    put,
    refused,
)
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import (
    TooManyCallsError,
    UnauthenticatedError,
)

RSA, OTHER_RSA, EC = (
    rsa.generate_private_key(65537, 2048),
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
)
WEAK = rsa.generate_private_key(65537, 1024)


def jwk(key: Any, kid: str, algorithm: str) -> dict[str, Any]:
    make = jwt.algorithms.ECAlgorithm if algorithm.startswith("ES") else jwt.algorithms.RSAAlgorithm
    return {**make.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": algorithm, "use": "sig"}


def key_set(**keys: tuple[Any, str]) -> bytes:
    return json.dumps({"keys": [jwk(key, kid, name) for kid, (key, name) in keys.items()]}).encode()


def signed(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": T0 + 60,
        "tenant": "acme",
        "scope": "speak converse email",
    }
    content = {name: value for name, value in {**good, **claims}.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a key that is too short, on purpose
        return jwt.encode(content, key, algorithm, headers={"kid": kid} if kid is not None else None)


@pytest.fixture
def jwks(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(one=(RSA, "RS256"), two=(EC, "ES256"), weak=(WEAK, "RS256")))
    return path


@pytest.fixture
def issued(jwks: pathlib.Path, clock: ManualClock, wall: Wall) -> Access:
    return Access(tokens_from(str(jwks)), clock, wall_s=wall)


def tokens_from(source: str, **more: Any) -> GatewaySettings:
    return GatewaySettings(
        gateway_jwt_jwks=source, gateway_jwt_issuer=ISSUER, gateway_jwt_audience=AUDIENCE, **more
    )


async def test_a_token_is_its_tenants_with_the_scopes_that_are_ours(issued: Access) -> None:
    caller = await admitted(issued, f"Bearer {signed()}")
    assert (caller.tenant, caller.key_id) == ("acme", "sub:ada")
    assert caller.scopes == frozenset({"speak", "converse"})
    assert caller.priority is Priority.NORMAL
    for token in (
        signed(EC, "ES256", "two", scope=["speak", 7]),
        signed(aud=["other", AUDIENCE]),
        signed(tenant=None),
    ):
        assert "speak" in ((await admitted(issued, f"Bearer {token}")).scopes or ())


def unsigned() -> str:
    return jwt.encode({"sub": "ada"}, "", "none")


def confused() -> str:
    """Sign by a shared secret that is the public key, as if the key of the set were one."""
    secret = base64.urlsafe_b64decode(jwk(RSA, "one", "RS256")["n"] + "==")
    return signed(secret, "HS256")


BAD: dict[str, Callable[[], str]] = {
    "not signed": unsigned,
    "signed by the public key": confused,
    "somebody else's key": lambda: signed(OTHER_RSA),
    "another key of the set": lambda: signed(EC, "ES256", "one"),
    "an algorithm that is not allowed": lambda: signed(RSA, "RS512"),
    "a key that is too short": lambda: signed(WEAK, kid="weak"),
    "a key that is not known": lambda: signed(kid="three"),
    "no key where there are several": lambda: signed(kid=None),
    "another issuer": lambda: signed(iss="https://evil.example"),
    "another audience": lambda: signed(aud="other"),
    "no issuer": lambda: signed(iss=None),
    "no audience": lambda: signed(aud=None),
    "no subject": lambda: signed(sub=None),
    "an empty subject": lambda: signed(sub=""),
    "a long subject": lambda: signed(sub="x" * 129),
    "no end": lambda: signed(exp=None),
    "an end that is none": lambda: signed(exp="tomorrow"),
    "an end that is not finite": lambda: signed(exp=float("nan")),
    "expired": lambda: signed(exp=T0 - 30),
    "not yet": lambda: signed(nbf=T0 + 31),
    "issued in the future": lambda: signed(iat=T0 + 31),
    "no tenant's name": lambda: signed(tenant="a b"),
    "a tenant that is no text": lambda: signed(tenant=7),
    "too long": lambda: signed(more="x" * 8192),
    "three dots": lambda: "a.b.c",
    "nested": lambda: base64.urlsafe_b64encode(b"[" * 4000).decode().rstrip("=") + ".e30.e30",
}


@pytest.mark.parametrize("case", BAD)
async def test_a_token_that_is_not_to_be_believed_is_refused(issued: Access, case: str) -> None:
    assert str(await refused(issued, f"Bearer {BAD[case]()}")) == "the key or token is not accepted"


async def test_clocks_may_differ_by_the_leeway(issued: Access) -> None:
    for token in (signed(exp=T0 - 29), signed(nbf=T0 + 30), signed(iat=T0 + 30)):
        await admitted(issued, f"Bearer {token}")


async def test_a_token_is_not_good_for_longer_because_it_was_seen(issued: Access, wall: Wall) -> None:
    token = signed()
    caller = await admitted(issued, f"Bearer {token}")
    assert issued._tokens is not None
    assert issued._tokens.known(token) == caller
    wall.now_s += 90
    with pytest.raises(UnauthenticatedError):
        caller.check()
    assert isinstance(await refused(issued, f"Bearer {token}"), UnauthenticatedError)


async def test_a_key_that_is_withdrawn_takes_its_tokens_with_it(issued: Access, jwks: pathlib.Path) -> None:
    caller = await admitted(issued, f"Bearer {signed()}")
    put(jwks, key_set(new=(OTHER_RSA, "RS256")))
    assert issued._jwks is not None
    await issued._jwks.refresh()
    await admitted(issued, f"Bearer {signed(OTHER_RSA, kid='new')}")
    await admitted(issued, f"Bearer {signed(OTHER_RSA, kid=None)}")  # there is only one
    with pytest.raises(UnauthenticatedError):
        caller.check()
    assert isinstance(await refused(issued, f"Bearer {signed()}"), UnauthenticatedError)


async def test_bad_tokens_are_read_so_often_and_good_ones_all_the_same(
    issued: Access, clock: ManualClock
) -> None:
    good = f"Bearer {signed()}"
    await admitted(issued, good)
    for _ in range(guards.BAD_TOKENS_PER_S):
        assert isinstance(await refused(issued, "Bearer a.b.c"), UnauthenticatedError)
    limited = await refused(issued, "Bearer a.b.c")
    assert isinstance(limited, TooManyCallsError)
    assert limited.retry_after_ms == 1000
    await admitted(issued, good)
    clock.advance_ms(10)
    assert isinstance(await refused(issued, "Bearer a.b.c"), UnauthenticatedError)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is no JSON Web Key Set"),
        (b'{"keys": []}', "1 to 100"),
        (b'{"keys": {}}', "1 to 100"),
        (json.dumps({"keys": [{}] * 101}).encode(), "1 to 100"),
        (b'{"keys": [{"kty": "none"}]}', "is no JSON Web Key Set"),
        (b" " * (jwks_module.MAX_BYTES + 1), "more than"),
    ],
)
def test_what_is_no_key_set_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(JwksError, match=said):
        jwks_module.parse(content)


class Issuer:
    """Answers for the address of public keys."""

    def __init__(self) -> None:
        self.content = key_set(one=(RSA, "RS256"))
        self.status = 200
        self.asked = 0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked += 1
        headers = {"location": "https://evil.example/"} if self.status == 302 else {}
        return httpx2.Response(self.status, content=self.content, headers=headers)


async def test_an_address_is_asked_for_a_new_key_and_not_too_often(
    clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    issuer = Issuer()
    keys = Jwks("https://id.example/jwks", 300, clock, httpx2.MockTransport(issuer))
    assert keys.find("one") is None
    await keys.unknown()
    assert keys.find("one") is not None
    issuer.content = key_set(one=(RSA, "RS256"), new=(EC, "ES256"))
    await keys.unknown()
    assert (issuer.asked, keys.find("new")) == (1, None)
    clock.advance_ms(jwks_module.LEAST_PAUSE_S * 1000)
    await keys.unknown()
    assert issuer.asked == 2
    assert keys.find("new") is not None
    for status, content in ((500, b""), (302, b""), (200, b"{"), (200, b" " * 300_000)):
        issuer.status, issuer.content = status, content
        await keys.refresh()
        assert keys.find("new") is not None
    clock.advance_ms(jwks_module.MOST_STALE_S * 1000 + 1)
    assert keys.find("new") is None  # it may have been withdrawn long ago
    assert capsys.readouterr().out.count("keys of tokens are refused") == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gateway_jwt_issuer": ""}, "VOICEMESH_GATEWAY_JWT_ISSUER"),
        ({"gateway_jwt_audience": ""}, "VOICEMESH_GATEWAY_JWT_AUDIENCE"),
        ({"gateway_jwt_jwks": "http://id.example/jwks"}, "must begin with https://"),
        ({"gateway_jwt_algorithms": ("none",)}, "gateway_jwt_algorithms"),
        ({"gateway_jwt_algorithms": ("HS256",)}, "gateway_jwt_algorithms"),
        ({"gateway_jwt_algorithms": ()}, "gateway_jwt_algorithms"),
    ],
)
def test_settings_of_tokens_that_would_let_strangers_in_are_refused(
    settings: dict[str, Any], said: str
) -> None:
    good = {"gateway_jwt_jwks": "x", "gateway_jwt_issuer": ISSUER, "gateway_jwt_audience": AUDIENCE}
    with pytest.raises(ValueError, match=said):
        GatewaySettings(**{**good, **settings})


def test_private_keys_and_shared_secrets_are_none_that_tokens_are_checked_with() -> None:
    public = json.loads(key_set(one=(RSA, "RS256")))["keys"][0]
    private = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA)), "kid": "two"}
    secret = {"kty": "oct", "kid": "three", "k": base64.urlsafe_b64encode(b"k" * 33).decode()}
    assert set(jwks_module.parse(json.dumps({"keys": [public, secret]}).encode())) == {"one"}
    with pytest.raises(JwksError, match="no public key"):
        jwks_module.parse(json.dumps({"keys": [secret]}).encode())
    with pytest.raises(JwksError, match="has a private key"):
        jwks_module.parse(json.dumps({"keys": [public, private]}).encode())
    with pytest.raises(JwksError):
        jwks_module.parse(json.dumps({"keys": [{**public, "kid": ["one"]}]}).encode())
