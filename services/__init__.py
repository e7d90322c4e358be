"""The services of the mesh: each its own process. They meet only over gRPC."""

from voicemesh.runtime.grpc_notes import quieten

quieten()  # here, for nothing of a package that is run is imported earlier
