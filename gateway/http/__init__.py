"""HTTP beside gRPC, in the same process and event loop."""
