#!/bin/sh
# install-debian.sh LOCK: install Debian's packages in the versions that LOCK names, and leave nothing behind
# that tells when, or that only an installation needs.
#
# A mirror holds the newest version of each package alone. Where one that LOCK names is gone, apt says so: renew
# LOCK (docs/images.md), or give DEBIAN_MIRROR an archive that still has them.
set -eu

if [ -n "${DEBIAN_MIRROR:-}" ]; then
    rm -f /etc/apt/sources.list.d/*
    {
        echo "deb [check-valid-until=no] $DEBIAN_MIRROR/debian bookworm main"
        echo "deb [check-valid-until=no] $DEBIAN_MIRROR/debian bookworm-updates main"
        echo "deb [check-valid-until=no] $DEBIAN_MIRROR/debian-security bookworm-security main"
    } >/etc/apt/sources.list
fi
export DEBIAN_FRONTEND=noninteractive
installed() { dpkg-query --show --showformat '${Package}=${Version}\n' | sort; }
installed >/tmp/before
apt-get -qq update
# shellcheck disable=SC2046 # a word each
apt-get -qq install --yes --no-install-recommends $(grep -v '^#' "$1")
if others=$(installed | comm -13 /tmp/before - | grep -vxFf "$1"); then
    echo "$others: came along, and $1 does not name it: renew that file" >&2
    exit 1
fi
rm /tmp/before
apt-get -qq clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache \
    /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/log/bootstrap.log \
    /var/lib/dpkg/*-old /usr/share/doc/* /usr/share/man/*
