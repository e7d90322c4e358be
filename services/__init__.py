"""The services of the mesh: each its own process. They meet only over gRPC."""

from voicemesh.grpc_variables import read_sockets_where_waited, tell_errors_alone

# Here, for nothing of a package that is run is imported earlier.
read_sockets_where_waited()
tell_errors_alone()
