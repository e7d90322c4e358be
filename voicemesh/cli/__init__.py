"""The command line of voicemesh."""
