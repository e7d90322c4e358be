"""The command line of voicemesh."""

from voicemesh.grpc_variables import read_sockets_where_waited

read_sockets_where_waited()  # gRPC looks when it is imported
