#!/usr/bin/env bash
# Copyright The bm-ccm Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that the tests and the demo need and that are
# missing. Without root or without apt it names them instead, and succeeds: the
# parts that need them say so themselves.
set -euo pipefail

packages=(
  build-essential              # the race detector needs a C compiler; so does NetBox's psycopg
  ca-certificates curl git jq  # fetching, and looking at what was answered
  iproute2 nftables conntrack  # the lab's namespaces, and kube-proxy in them
  procps kmod iputils-ping netcat-openbsd
  frr                          # the router of the lab
  postgresql redis-server libpq-dev python3-venv debootstrap  # the real NetBox
)
# Packages with a service: they are used as programs only, in private folders.
services=(frr postgresql redis-server)

installed() { dpkg-query -W -f='${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

if ! command -v dpkg-query >/dev/null; then
  echo "deps: not a Debian system; the lab needs what these packages hold: ${packages[*]}"
  exit 0
fi

missing=()
for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
if [ ${#missing[@]} = 0 ]; then
  echo "deps: all ${#packages[@]} Debian packages are here"
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  echo "deps: not root, so these packages stay missing: ${missing[*]}"
  echo "deps: lint and unit tests run without them, the lab and the demo do not"
  exit 0
fi

# Debian starts a service as soon as it is installed; a policy of 101 forbids
# it for the time of the installation. A policy that is there is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

log=$(mktemp /tmp/bm-ccm-deps.XXXXXX)
run() { "$@" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; echo "deps: failed: $* (whole output: $log)" >&2; exit 1; }; }
printf 'deps: installing %d Debian packages: %s ... ' "${#missing[@]}" "${missing[*]}"
start=$SECONDS
export DEBIAN_FRONTEND=noninteractive
run apt-get update
run apt-get install -y --no-install-recommends "${missing[@]}"
rm -f "$log"

# Nor shall they start at the next boot because of us.
if [ -d /run/systemd/system ]; then
  for s in "${services[@]}"; do
    for m in "${missing[@]}"; do
      [ "$s" != "$m" ] || systemctl disable --quiet "$s" || true
    done
  done
fi
echo "done in $((SECONDS - start)) s"
