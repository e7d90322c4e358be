"""Write the network policies of k8s/, and a table in docs/, from `voicemesh.runtime.edges`.

Everything of the namespace is shut in both directions; each pod is then allowed the edges that the table has
for it. With `--check` nothing is written: it fails if a file is not what the table gives.
"""

import functools
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from voicemesh.runtime.edges import (
    CALLER,
    COLLECTOR,
    DNS,
    EDGES,
    GRAFANA,
    KUBELET,
    ON_THE_INTERNET,
    PROMETHEUS,
    REDIS,
    SAMPLER,
    SERVICES,
    TEMPO,
    Edge,
    edges_from,
    edges_to,
)
from voicemesh.runtime.permissions import OPERATOR

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "k8s" / "base" / "network-policies"
COMPONENTS = {
    ROOT / "k8s" / "components" / "redis" / "network-policy.yaml": (REDIS,),
    ROOT / "k8s" / "components" / "observability" / "network-policies.yaml": (COLLECTOR, SAMPLER, TEMPO),
}
"""What is switched on comes with its own policies."""
PAGE = ROOT / "docs" / "kubernetes_security.md"
BEGIN, END = "<!-- edges: made by tools/gen_network_policies.py -->", "<!-- end of edges -->"
HEADER = "# Made from voicemesh/runtime/edges.py: `make network-policies`.\n"

CALLERS_LABEL = "voicemesh/callers"
"""On a namespace: its pods may call the gateway."""
MONITORING = "monitoring"
"""The namespace of Prometheus, and of a collector that the whole cluster shares."""

NOT_PUBLIC_4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "private: carriers, pods of some clouds, a metadata address (100.100.100.200)",
    "127.0.0.0/8": "the pod itself",
    "168.63.129.16/32": "Azure's metadata",
    "169.254.0.0/16": "link-local: metadata of most clouds (169.254.169.254)",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "special, a metadata address (192.0.0.192)",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarks",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
NOT_PUBLIC_6 = {
    "::/127": "none, and the pod itself",
    "64:ff9b::/96": "NAT64: leads to any IPv4 address, private ones too",
    "64:ff9b:1::/48": "NAT64 of one's own",
    "2002::/16": "6to4: the same",
    "fc00::/7": "private, a metadata address (fd00:ec2::254)",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
"""What is no address of the internet, and why: who is allowed the internet is not allowed these."""


def main() -> int:
    """Write the files, or check them; return the exit status."""
    texts = files()
    if sys.argv[1:] != ["--check"]:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return 0
    wrong = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    wrong += [path for path in FOLDER.iterdir() if path not in texts] if FOLDER.is_dir() else []
    for path in wrong:
        print(f"{path.relative_to(ROOT)} is not what the table gives. Run `make network-policies`.")
    return 1 if wrong else 0


def files() -> dict[pathlib.Path, str]:
    """Return every file that is made, and its text."""
    policies = {"default-deny": HEADER + _shut()}
    policies |= {name: HEADER + policy(name) for name in (*SERVICES, OPERATOR)}
    listing = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{name}.yaml" for name in sorted(policies)],
    }
    texts = {FOLDER / f"{name}.yaml": text for name, text in policies.items()}
    texts[FOLDER / "kustomization.yaml"] = HEADER + _yaml(listing)
    for path, names in COMPONENTS.items():
        texts[path] = HEADER + "---\n".join(policy(name) for name in names)
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.relative_to(ROOT)}: has no {BEGIN} … {END}")
    texts[PAGE] = f"{before}{BEGIN}\n{table()}{END}{after}"
    return texts


@functools.cache
def specs() -> dict[str, Any]:
    """Return the spec of every policy that is made, by the policy's name."""
    listed = [text for path, text in files().items() if path != PAGE]
    found = [each for text in listed for each in yaml.safe_load_all(text)]
    return {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "NetworkPolicy"}


def table() -> str:
    """Return the edges as a table of Markdown; those that differ in one end alone share a row."""
    callers: dict[tuple[str, str, str], list[str]] = {}
    for edge in EDGES:
        protocols = f" ({', '.join(edge.protocols)})" if edge.protocols != ("TCP",) else ""
        at = ", ".join(map(str, edge.ports)) + protocols
        callers.setdefault((edge.callee, at, edge.why), []).append(edge.caller)
    callees: dict[tuple[str, str, str], list[str]] = {}
    for (callee, at, why), names in callers.items():
        callees.setdefault((", ".join(names), at, why), []).append(callee)
    lines = ["| who | connects to | at | what for |", "|---|---|---|---|"]
    lines += [f"| {who} | {', '.join(whom)} | {at} | {why} |" for (who, at, why), whom in callees.items()]
    return "\n".join([*lines, ""])


def policy(name: str) -> str:
    """Return what the pods of one component may, as YAML."""
    spec: dict[str, Any] = {"podSelector": _pods(name), "policyTypes": ["Ingress", "Egress"]}
    text = _yaml({**_begin(name, name), "spec": spec})
    return text + _rules("ingress", edges_to(name)) + _rules("egress", edges_from(name))


def _shut() -> str:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return "# What no other policy allows is not allowed, in either direction.\n" + _yaml(
        {**_begin("default-deny", ""), "spec": spec}
    )


def _begin(name: str, component: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "voicemesh", "app.kubernetes.io/part-of": "voicemesh"}
    if component:
        labels["app.kubernetes.io/component"] = component
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": labels},
    }


def _rules(direction: str, edges: Iterable[Edge]) -> str:
    rules = "".join(_rule(direction, edge) for edge in edges)
    return f"  {direction}:\n{rules}" if rules else f"  {direction}: []\n"


def _rule(direction: str, edge: Edge) -> str:
    other, ends = (edge.caller, "from") if direction == "ingress" else (edge.callee, "to")
    if other == KUBELET:
        return "    # kubelet's probes come from the pod's own machine, which no policy holds up.\n"
    ports = [{"protocol": protocol, "port": port} for port in edge.ports for protocol in edge.protocols]
    lines = [f"    # {other}: {edge.why}", *_indented(_yaml([{ends: list(_peers(other)), "ports": ports}]))]
    text = "\n".join(lines) + "\n"
    for ranges in (NOT_PUBLIC_4, NOT_PUBLIC_6):
        for cidr, why in ranges.items():
            for written in (f"- {cidr}\n", f"- '{cidr}'\n"):
                text = text.replace(written, f"{written[:-1]} # {why}\n")
    return text


def _indented(text: str) -> Iterator[str]:
    return (f"    {line}" for line in text.splitlines())


def _peers(name: str) -> Iterator[dict[str, Any]]:
    """Return who that is, as selectors."""
    if name in ON_THE_INTERNET:
        yield {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(NOT_PUBLIC_4)}}
        yield {"ipBlock": {"cidr": "::/0", "except": list(NOT_PUBLIC_6)}}
    elif name == CALLER:
        yield {"namespaceSelector": {"matchLabels": {CALLERS_LABEL: "true"}}}
    elif name == DNS:
        yield {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    elif name in (PROMETHEUS, GRAFANA):
        yield _monitoring(name)
    elif name == COLLECTOR:
        yield {"podSelector": _pods(COLLECTOR)}
        yield _monitoring("opentelemetry-collector")
    else:
        yield {"podSelector": _pods(name)}


def _monitoring(app: str) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": MONITORING}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": app}},
    }


def _pods(component: str) -> dict[str, Any]:
    return {"matchLabels": {"app.kubernetes.io/name": "voicemesh", "app.kubernetes.io/component": component}}


def _yaml(document: Any) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, width=200)
    return text


if __name__ == "__main__":
    sys.exit(main())
