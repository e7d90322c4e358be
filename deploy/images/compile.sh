#!/bin/sh
# compile.sh FOLDER …: bytecode that is the same from each build, and good whatever the files' times are.
#
# A .pyc holds the time of its source by default. Images are built with one time for all files, so each of those
# would be stale, and a read-only root cannot keep a better one: every start would compile all that it imports.
# Unchecked ones hold no time. The order of sets in them is the hash seed's.
set -eu
PYTHONHASHSEED=0 exec python3.11 -m compileall -q -f --invalidation-mode unchecked-hash "$@"
