"""What is wrong with a file of flags."""


class FlagsError(Exception):
    """A file of flags cannot be used, or not changed as asked. The text says where, and what is wrong."""
