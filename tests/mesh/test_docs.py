"""The examples of docs/client.md do what they say, as they stand there."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import Mesh
from voicemesh.client import VoiceMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")
_PAGE = Path(__file__).parents[2] / "docs" / "client.md"
_EXAMPLES = re.findall(r"^## (.+?)\n|```python\n(.*?)```", _PAGE.read_text(), re.DOTALL | re.MULTILINE)


def _examples() -> list[Any]:
    title, examples = "the first one", []
    for heading, code in _EXAMPLES:
        if heading:
            title = heading
        else:
            examples.append(pytest.param(code, id=title))
    return examples


@pytest.mark.parametrize("code", _examples())
async def test_an_example(mesh: Mesh, client: VoiceMesh, code: str) -> None:
    imports = "from voicemesh.client import FLUSH, Chunk, Frame, SpeechOptions, TextDelta, VoiceMesh, Words\n"
    ends = code.replace("localhost:50050", mesh.address("gateway"))
    # A listener goes on for ever; here it has heard enough with one turn.
    ends = (
        ends.replace("            ...\n", "            pass\n        break\n") if "turns()" in code else ends
    )
    body = textwrap.indent(ends, "    ")
    heard: list[bytes] = []
    scope: dict[str, Any] = {"play": heard.append, "user_speaks": lambda: True}
    exec(f"{imports}async def example(mesh):\n{body}", scope)
    await scope["example"](client)
    assert heard or "play(" not in code
