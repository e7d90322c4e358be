#!/usr/bin/env bash
# Install what tests need of the machine and no wheel brings: Prometheus with promtool, Chromium, and a Redis that
# speaks TLS, from Debian. Does nothing where they are there.
#
#   tools/ci_machine.sh > missing
#
# Writes to standard output the programs that are missing for good: there is no apt-get, or no right to use it.
# Tests that need those are left out, and say so. Where it can install it must: a failure to is one of the run.
set -euo pipefail

declare -A PACKAGES=([prometheus]=prometheus [promtool]=prometheus [chromium]=chromium
    [redis-server]=redis-server [redis-cli]=redis-server)

missing() {
    local program
    for program in "${!PACKAGES[@]}"; do
        command -v "$program" >/dev/null || echo "$program"
    done
}

wanted=$(for program in $(missing); do echo "${PACKAGES[$program]}"; done | sort -u)
if [ -z "$wanted" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "Tests that need $(missing | sort | paste -sd ' ') are left out: install $(paste -sd ' ' <<<"$wanted")." >&2
    missing | sort
    exit 0
fi

# Debian starts what it installs. Whoever may forbid it is asked through this file; one that is there decides itself.
POLICY=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
if [ ! -e "$POLICY" ]; then
    trap 'rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
fi
export DEBIAN_FRONTEND=noninteractive
# Others may be installing, and a mirror may be slow to answer.
apt_get() { apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 --quiet --quiet "$@"; }
{
    # A source that cannot be reached may be none of those that have the packages: the install decides.
    apt_get update || echo "apt-get update failed; trying what is known of the packages." >&2
    # shellcheck disable=SC2086 # names of packages, one word each
    apt_get install --yes --no-install-recommends $wanted ||
        { echo "$(paste -sd ' ' <<<"$wanted") could not be installed: see above."; exit 1; }
} >&2
