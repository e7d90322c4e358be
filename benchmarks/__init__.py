"""Measurements; each module is a command, and README.md has what they printed."""

import os

# gRPC's own notes about connections are not for people, and it asks this when it is imported: behind this.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
