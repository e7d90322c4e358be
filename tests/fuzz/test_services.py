"""Every service, sent what nobody would send: it answers each call by a typed status, and goes on."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fuzz import http
from tests.fuzz.grammars import GRAMMARS
from tests.fuzz.lab import HTTP, Lab, complaints_of, running_lab

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = "every change"
SPEECH = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\n"
MESSAGES = {"gateway": 250}
"""A few hundred each: `make fuzz` sends as many as one likes."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    """Run a mesh; at its end every process ends well and has not complained."""
    async with running_lab() as running:
        yield running


@pytest.mark.parametrize("service", GRAMMARS)
async def test_a_service_outlives_what_it_is_sent(lab: Lab, service: str) -> None:
    found = await lab.fuzz(service, SEED, MESSAGES.get(service, 500), at_once=8, batch=1_000)
    assert not found.all_faults
    assert found.tally.ends["OK"]
    assert any(end.startswith("INVALID_ARGUMENT") for end in found.tally.ends)


async def test_the_http_edge_outlives_what_it_is_sent(lab: Lab) -> None:
    found = await lab.fuzz(HTTP, SEED, 300, at_once=8, batch=1_000)
    assert not found.all_faults
    assert {"200", "400", "404", "405"} <= set(found.tally.ends)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"HEAD /live/api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"200"),
        # What is no HTTP comes while the body is read, and behind an answer that needed none.
        (
            SPEECH + b"Transfer-Encoding: chunked\r\n\r\n3\r\n{}\r\nno\r\n",
            b"400",
        ),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nnone\r\n\r\n", b"200"),
        (b"none\r\n\r\n", b"400"),
    ],
    ids=["the head of events", "a broken body", "noise behind a request", "no request"],
)
async def test_an_answer_over_http_ends_and_is_no_error_of_the_gateway(
    lab: Lab, sent: bytes, status: bytes
) -> None:
    async with asyncio.timeout(60):
        answered = await http.answer_of(f"{lab.mesh.folder}/http.sock", (sent,))
    assert answered.split()[1] == status
    assert status != b"400" or json.loads(answered.partition(b"\r\n\r\n")[2])["error"]["code"]
    assert not complaints_of(lab.mesh.processes["gateway"])


async def test_who_leaves_before_a_body_is_sent_is_no_error_of_the_gateway(lab: Lab) -> None:
    path = f"{lab.mesh.folder}/http.sock"
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(SPEECH + b"Content-Length: 90\r\nExpect: 100-continue\r\n\r\n")
    await reader.readuntil(b"100 ")  # it waits for the body now
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(60):
        await http.answer_of(path, (b"GET /healthz HTTP/1.0\r\n\r\n",))
    assert not complaints_of(lab.mesh.processes["gateway"])
