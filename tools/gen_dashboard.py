"""Write deploy/observability/grafana/dashboards/voicemesh.json: the dashboard, as code.

With `--check` nothing is written: it fails if the file is not what this gives. `make dashboard` writes it.
The queries ask for the metrics of docs/metrics.md; tests/mesh/test_dashboard.py puts each of them to a real
Prometheus.
"""

import json
import pathlib
import sys
from typing import Final

import dashboard_services
import dashboard_turns
from grafana import dashboard, datasource, label_values

ROOT: Final = pathlib.Path(__file__).resolve().parent.parent
FILE: Final = ROOT / "deploy" / "observability" / "grafana" / "dashboards" / "voicemesh.json"


def main() -> int:
    """Write the file, or check it; return the exit status."""
    text = json.dumps(built(), indent=2, ensure_ascii=False) + "\n"
    if sys.argv[1:] != ["--check"]:
        FILE.write_text(text)
        return 0
    if FILE.is_file() and FILE.read_text() == text:
        return 0
    print(f"{FILE.relative_to(ROOT)} is not what the code gives. Run `make dashboard` and commit it.")
    return 1


def built() -> dict[str, object]:
    """Return the dashboard."""
    return dashboard(
        uid="voicemesh",
        title="voicemesh",
        description="Where the silence of each turn goes. docs/dashboards.md says how to read it.",
        variables=[
            datasource("datasource", "Prometheus"),
            label_values("namespace", "Mesh", "voicemesh_build_info"),
            label_values("instance", "Instance", 'voicemesh_build_info{namespace=~"$namespace"}'),
            label_values("voice", "Voice", 'voicemesh_tts_replicas{namespace=~"$namespace"}'),
        ],
        rows=[*dashboard_turns.ROWS, *dashboard_services.ROWS],
    )


if __name__ == "__main__":
    sys.exit(main())
