"""The gateway: the edge of the mesh and the engine of its turns."""

from voicemesh.runtime.grpc_notes import quieten

quieten()  # here, for nothing of a package that is run is imported earlier
