"""HTTP beside gRPC, in the same process and event loop."""

from gateway.http.edge import HttpEdge, version

__all__ = ["HttpEdge", "version"]
