"""Manifests against the types of operators: KEDA, cert-manager, the Prometheus operator, Argo Rollouts.

The packages `@kubernetes-models/…` are made from the operators' own code: validators of values, which let
unknown fields pass, and types, by which TypeScript refuses these. Both are asked.
"""

import json
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

from k8s.objects import Doc

PACKAGES: Final = {
    "argoproj.io": "argo-rollouts",
    "cert-manager.io": "cert-manager",
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
}
"""Group to package."""
_TYPESCRIPT: Final = {
    "compilerOptions": {
        "noEmit": True,
        "strict": True,
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "skipLibCheck": True,
        "types": [],
    },
    "files": ["objects.ts"],
}
_COMPLAINT: Final = re.compile(r"^objects\.ts\((\d+),\d+\): error TS\d+: (.*)$", re.MULTILINE)


class OperatorsError(Exception):
    """What checks did not run; the text is what it said."""


def is_known(doc: Doc) -> bool:
    """Say whether there are types for an object."""
    return doc["apiVersion"].partition("/")[0] in PACKAGES


def problems(folder: pathlib.Path, docs: Sequence[Doc]) -> Iterator[tuple[int, str]]:
    """Yield what is wrong: the number of the object, and the text.

    Args:
        folder: Where the packages are installed.
        docs: Objects, each of a group in `PACKAGES`.

    Raises:
        OperatorsError: The packages do not run.

    """
    if not docs:
        return
    folder = folder.resolve()
    # Inside the folder, so that the packages are found.
    with tempfile.TemporaryDirectory(dir=folder, prefix="check-") as made:
        place = pathlib.Path(made)
        (place / "tsconfig.json").write_text(json.dumps(_TYPESCRIPT))
        (place / "objects.ts").write_text("".join(_typed(number, doc) for number, doc in enumerate(docs)))
        (place / "values.mjs").write_text(_script(docs))
        tsc = folder / "node_modules" / ".bin" / "tsc"
        with subprocess.Popen(
            [tsc, "--project", place, "--pretty", "false"], cwd=place, stdout=subprocess.PIPE, text=True
        ) as types:
            values = subprocess.run(
                ["node", "values.mjs"], cwd=place, capture_output=True, text=True, check=False
            )
            said, _ = types.communicate()
    found = _COMPLAINT.findall(said)
    if values.returncode or (types.returncode and not found):
        raise OperatorsError(
            f"node ended with {values.returncode}, tsc with {types.returncode}: {values.stderr}{said}"
        )
    for line, text in found:
        yield int(line) - 1, text
    for number, text in json.loads(values.stdout):
        yield number, text


def _typed(number: int, doc: Doc) -> str:
    """Return an object as a line of TypeScript that says what it is."""
    return f"export const object{number}: import({_module(doc)}).I{doc['kind']} = {json.dumps(doc)};\n"


def _module(doc: Doc) -> str:
    group = doc["apiVersion"].partition("/")[0]
    return json.dumps(f"@kubernetes-models/{PACKAGES[group]}/{doc['apiVersion']}")


def _script(docs: Sequence[Doc]) -> str:
    """Return a script that prints number and complaint of what the validators refuse."""
    given = ",\n".join(f"[() => import({_module(doc)}), {json.dumps(doc)}]" for doc in docs)
    return f"""\
const found = [];
for (const [number, [load, doc]] of [{given}].entries()) {{
  const Kind = (await load())[doc.kind];
  try {{
    new Kind(doc).validate();
  }} catch (error) {{
    found.push([number, error.message]);
  }}
}}
console.log(JSON.stringify(found));
"""
