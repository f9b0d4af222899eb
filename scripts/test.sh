#!/bin/bash
# test.sh NAME PYTHON PATH...: runs pytest on those PATHs that exist and closes with one line for each suite run, which
# it leaves in build/test-summary/. Nothing is run a second time: a test that passes only then has found something.
set -uo pipefail
name=$1 python=$2
shift 2
paths=()
for path in "$@"; do [ -e "$path" ] && paths+=("$path"); done

workers=() # unit tests mostly wait: two files at a time. There is one switch: its tests take turns
[ "$name" = unit ] && workers=(-n 2 --dist loadfile)

mkdir -p build/test-summary
log=build/test-summary/$name.log
"$python" -m pytest -q --durations=5 --durations-min=3 "${workers[@]}" "${paths[@]}" | tee "$log"
status=$?

version=$("$python" -c 'import platform; print(platform.python_version())')
echo "pytest $name, Python $version: $(tail -n 1 "$log")" > "build/test-summary/pytest-$name"
echo
[ "$name" = unit ] && cat build/test-summary/c
cat "build/test-summary/pytest-$name"
exit $status
