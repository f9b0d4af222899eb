#!/bin/bash
# clang-format.sh MAJOR: prints the name of an installed clang-format of that major version, or nothing.
set -uo pipefail
for name in "clang-format-$1" clang-format; do
  version=$("$name" --version 2>/dev/null) || continue
  [[ $version =~ version\ ([0-9]+)\. ]] && [ "${BASH_REMATCH[1]}" = "$1" ] && echo "$name" && exit
done
exit 0
