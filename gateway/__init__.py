"""The gateway: the edge of the mesh and the engine of its turns."""

from voicemesh.grpc_variables import read_sockets_where_waited, tell_errors_alone

# Here, for nothing of a package that is run is imported earlier.
read_sockets_where_waited()
tell_errors_alone()
