"""Whether a file is another than it was."""

from pathlib import Path

Mark = tuple[int, ...] | None
"""What tells one state of a file from another; None where there is none."""


def look(path: Path) -> Mark:
    """Return the mark of a file as it is now."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of the inode too: a copy may bring the old time of the content with it.
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
