"""HTTP beside gRPC, in the same process and event loop."""

from gateway.http.edge import HttpEdge

__all__ = ["HttpEdge"]
