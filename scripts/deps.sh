#!/bin/bash
# Installs what building and testing needs and this machine lacks. Each need is checked by using it, so a compiler or a
# Python from elsewhere counts. PYTHON: the interpreter to build for.
set -euo pipefail
PYTHON=${PYTHON:-python3}

missing=()
need() { # need PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
header() { echo "#include <$1>" | ${CC:-gcc} -E -o /dev/null -; }
cmocka_header() { printf '#include <stdarg.h>\n#include <stddef.h>\n#include <setjmp.h>\n#include <stdint.h>\n#include <cmocka.h>\n' |
  ${CC:-gcc} -E -o /dev/null -; }
python_has() { "$PYTHON" -c "$1"; }

need build-essential sh -c "command -v ${CC:-gcc} && echo '#include <stdlib.h>' | ${CC:-gcc} -E -o /dev/null -"
need pkg-config command -v pkg-config
need libspeexdsp-dev header speex/speex_resampler.h
need libssl-dev header openssl/ssl.h
need zlib1g-dev header zlib.h
need libwebsockets-dev header libwebsockets.h
need libjansson-dev header jansson.h
need libsndfile1-dev header sndfile.h
need libmpg123-dev header mpg123.h
need libogg-dev header ogg/ogg.h
need libvorbis-dev header vorbis/codec.h
need libopus-dev header opus/opus_multistream.h
need openssl command -v openssl
need libcmocka-dev cmocka_header
need python3-venv python_has 'import ensurepip, venv'
need python3-dev python_has 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
need espeak-ng command -v espeak-ng

[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
  root=()
elif sudo -n true 2>/dev/null; then
  root=(sudo)
else
  echo "missing: ${missing[*]}; as root: apt-get install ${missing[*]}" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null; then
  echo "missing: ${missing[*]} (Debian's names); install them with this system's package manager" >&2
  exit 1
fi
echo "APT     ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for step in "update -q" "install -q -y --no-install-recommends ${missing[*]}"; do
  # shellcheck disable=SC2086 # a list of words
  "${root[@]}" apt-get $step >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "apt-get $step failed" >&2
    exit 1
  }
done
