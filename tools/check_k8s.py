"""Check the manifests in k8s/: that all of them build, fit the schemas, and keep the rules of `k8s.rules`.

    python tools/check_k8s.py --kubectl PROGRAM --crds FOLDER [--rules] [OVERLAY ...]

With folders, these overlays of a platform's own are built and held to the same, and nothing else is. Else
each overlay of k8s/ is built, and each component over the base. What is the same in several is so once.
Each schema and each rule is also shown something that it must refuse.
"""

import argparse
import concurrent.futures
import copy
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Final

from k8s.objects import Doc, Manifests, title_of
from k8s.rules import RULES, Breach, breaches

from k8s import mutations, operators, own, render, schemas, settings_env, traps

ROOT: Final = pathlib.Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "k8s"
ODD: Final = """\
# A=comment
## B=note
C={"a": "b c", "d": [1, 2]}
D=a=b==c
E=#none
F=it's "so"
G=$HOME ${HOME} $(HOME) %20 \\n
H=é, 中文 and 🎧
I=
J=[{"name": "x", "text": "'quoted'"}]
"""
"""What a parser may stumble over."""
EXCEPTIONS: Final[dict[tuple[str, str], str]] = {
    ("selectors-match", "NetworkPolicy/operator"): "for pods that people start to look after the mesh",
    (
        "secrets-by-reference",
        "Secret/voicemesh-redis",
    ): "of dev alone, which asks for nothing to be made first",
}
"""Rule and object to why it need not keep it. One that is not needed fails."""


def main() -> int:
    """Check everything; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kubectl", default="kubectl", help="the program that builds")
    parser.add_argument("--crds", type=pathlib.Path, required=True, help="where the types of operators are")
    parser.add_argument("--rules", action="store_true", help="list the rules, and do nothing else")
    parser.add_argument("overlays", nargs="*", type=pathlib.Path, help="folders of a platform's own")
    asked = parser.parse_args()
    if asked.rules:
        for rule in RULES.values():
            print(f"{rule.name}: {rule.says}")
        return 0
    if asked.overlays:
        return check_own(asked.kubectl, asked.crds, asked.overlays)
    began_s = time.monotonic()
    built: list[Manifests] = []
    wrong = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in sorted(FOLDER.rglob("*.yaml"))
        for text in render.keys_twice(path.read_text(encoding="utf-8"))
    ]
    for each in render.render_all(asked.kubectl, FOLDER):
        if isinstance(each, Manifests):
            built.append(each)
        else:
            wrong.append(str(each))
    different = {schemas.key_of(doc): doc for each in built for doc in each.docs}
    plain = [doc for doc in different.values() if schemas.is_built_in(doc)]
    added = [doc for doc in different.values() if operators.is_known(doc)]
    with concurrent.futures.ProcessPoolExecutor() as pool:
        of_versions = [pool.submit(fit, plain, version) for version in schemas.VERSIONS]
        of_rules = [pool.submit(breaches, each) for each in built]
        unseen = pool.submit(unseen_changes, built)
        trapped = pool.submit(unfound_traps, asked.kubectl)
        wrong += typed(asked.crds, added)
        wrong += misread(asked.kubectl)
        for done in of_versions:
            wrong += done.result()
        wrong += judged([breach for done in of_rules for breach in done.result()])
        wrong += unseen.result()
        wrong += trapped.result()
    for line in wrong:
        print(line)
    print(
        f"{len(built)} builds of k8s/, {len(plain)} + {len(added)} different objects against Kubernetes "
        f"{', '.join(schemas.VERSIONS)} and {len(operators.PACKAGES)} operators, {len(RULES)} rules with "
        f"{len(mutations.MUTATIONS)} changes and {len(traps.TRAPS)} traps: "
        f"{len(wrong)} problems, {time.monotonic() - began_s:.1f} s"
    )
    return 1 if wrong else 0


def check_own(kubectl: str, crds: pathlib.Path, paths: Sequence[pathlib.Path]) -> int:
    """Check overlays of a platform's own; return the exit status."""
    wrong: list[str] = []
    for path in paths:
        try:
            manifests = own.overlay(kubectl, path)
        except render.RenderError as error:
            wrong.append(f"{path}: {error}")
            continue
        found = [str(each) for each in own.found(manifests) if (each.rule, each.title) not in EXCEPTIONS]
        built_in = [doc for doc in manifests.docs if schemas.is_built_in(doc)]
        typed_ = [doc for doc in manifests.docs if operators.is_known(doc)]
        found += [f"{path}: {text}" for text in schemas.problems(built_in)]
        found += [
            f"{path}: {title_of(typed_[number])}: {text} [{typed_[number]['apiVersion']}]"
            for number, text in operators.problems(crds, typed_)
        ]
        wrong += found
        unknown = sorted({doc["kind"] for doc in manifests.docs if doc not in built_in and doc not in typed_})
        brought = ", ".join("/".join(each) for each in own.needed(manifests))
        print(f"{path}: {len(manifests.docs)} objects, {len(found)} problems")
        if brought:
            print(f"{path}: needs what is not in it, some of it only if you use it: {brought}")
        if unknown:
            print(f"{path}: no schema is known here of {', '.join(unknown)}")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def misread(kubectl: str) -> list[str]:
    """Return the files of settings that kustomize reads otherwise than they are read and written here."""
    texts = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in sorted(FOLDER.glob("base/*/settings.env"))
    }
    texts["values with marks in them"] = ODD
    return [
        f"{name}: kustomize reads it otherwise than tools/k8s/settings_env.py"
        for name, text in texts.items()
        if render.data_of(kubectl, text) != settings_env.read(text).values
    ]


def fit(docs: Sequence[Doc], version: str) -> list[str]:
    """Return what does not fit the schemas of a version, and which of them take anything."""
    kinds = {doc["kind"]: doc for doc in docs}
    return [
        *schemas.problems(docs, (version,)),
        *(
            f"Kubernetes {version}: {kind} takes a field that there is not"
            for kind, doc in kinds.items()
            if not list(schemas.problems([spoilt(doc)], (version,)))
        ),
    ]


def typed(folder: pathlib.Path, docs: Sequence[Doc]) -> list[str]:
    """Return what does not fit the types of operators, and which of them take anything."""
    kinds = list({doc["kind"]: doc for doc in docs}.values())
    everything = [*docs, *(spoilt(doc) for doc in kinds)]
    wrong: list[str] = []
    refused: set[int] = set()
    for number, text in operators.problems(folder, everything):
        refused.add(number)
        if number < len(docs):
            wrong.append(f"{title_of(docs[number])}: {text} [{docs[number]['apiVersion']}]")
    wrong += [
        f"{doc['apiVersion']}: {doc['kind']} takes a field that there is not"
        for number, doc in enumerate(kinds, start=len(docs))
        if number not in refused
    ]
    return wrong


def spoilt(doc: Doc) -> Doc:
    """Return an object with a field that no kind has, as deep as its spec where it has one."""
    changed = copy.deepcopy(doc)
    (changed["spec"] if isinstance(changed.get("spec"), dict) else changed)["nothingOfTheKind"] = True
    return changed


def unseen_changes(built: Sequence[Manifests]) -> list[str]:
    """Return which rules do not see what breaks them."""
    return list(mutations.blind(built))


def unfound_traps(kubectl: str) -> list[str]:
    """Return the traps of overlays that no rule sees."""
    return list(traps.unfound(kubectl, FOLDER))


def judged(found: Sequence[Breach]) -> list[str]:
    """Return the breaches that nothing excuses, once for all places, and excuses that nothing needs."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for breach in found:
        if (breach.rule, breach.title) not in EXCEPTIONS:
            places.setdefault((breach.rule, breach.title, breach.text), []).append(breach.where)
    wrong = [f"{', '.join(where)}: {title}: {text} [{rule}]" for (rule, title, text), where in places.items()]
    needed = {(breach.rule, breach.title) for breach in found}
    wrong += [
        f"tools/check_k8s.py: EXCEPTIONS excuses {each} from nothing" for each in EXCEPTIONS.keys() - needed
    ]
    return wrong


if __name__ == "__main__":
    sys.exit(main())
