#!/usr/bin/env bash
# Installs Debian packages that a fresh machine lacks, where we may: as root, or through sudo without
# a password. Otherwise it says loudly what is missing, and the suites that need it skip.
#   install.sh venv PYTHON   what building .venv needs
#   install.sh parts         the real parts of the tests
set -euo pipefail

PARTS=(
  mosquitto                  # the broker of production
  postgresql                 # the database of production
  ffmpeg                     # what decoding is measured against
  chromium fonts-dejavu-core # browser tests
  python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
  gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly # a camera: an RTSP server
)

install() {
  local missing=() package as_root=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    else
      echo "!! Not installed, and not root: ${missing[*]}" >&2
      echo "!! The suites that need them will skip. To run them: apt-get install ${missing[*]}" >&2
      return 0
    fi
  fi
  if ! command -v apt-get >/dev/null; then
    echo "!! No apt-get here; install by hand: ${missing[*]}" >&2
    return 0
  fi
  echo "installing from Debian: ${missing[*]}" >&2
  [[ " ${missing[*]} " != *" postgresql "* ]] || leave_no_cluster "${as_root[@]}"
  "${as_root[@]}" apt-get update -qq >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends -o Dpkg::Options::=--force-confold \
    "${missing[@]}" >&2
}

# Debian's package would make a database and serve it for good; the tests start servers of their own.
leave_no_cluster() {
  [ ! -e /etc/postgresql-common/createcluster.conf ] || return 0 # whoever put it there decides
  "$@" mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" | "$@" tee /etc/postgresql-common/createcluster.conf >/dev/null
}

case "${1:-}" in
  venv)
    # Debian's python3 comes without ensurepip; other Pythons bring their own.
    "$2" -c 'import ensurepip' 2>/dev/null || install python3-venv
    ;;
  parts) install "${PARTS[@]}" ;;
  *)
    echo "usage: install.sh venv PYTHON | parts" >&2
    exit 2
    ;;
esac
