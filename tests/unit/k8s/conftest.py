"""What the manifests are checked with is a tool: its folder is no package that is installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))
