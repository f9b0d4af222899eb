#!/bin/bash
# test.sh NAME PYTHON PATH...: runs pytest on those PATHs that exist and closes with one line for each suite run, which
# it leaves in build/test-summary/. What fails is run once more, alone, and both results are shown: calls in real time
# fail on a machine that stalls, and pass when asked again; a defect fails twice.
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
first=
if [ $status -eq 1 ]; then
  first="first $(tail -n 1 "$log"); failures again: "
  echo "failed: once more, alone"
  "$python" -m pytest -q --last-failed --last-failed-no-failures none "${paths[@]}" | tee "$log"
  status=$?
fi

version=$("$python" -c 'import platform; print(platform.python_version())')
echo "pytest $name, Python $version: $first$(tail -n 1 "$log")" > "build/test-summary/pytest-$name"
echo
[ "$name" = unit ] && cat build/test-summary/c
cat "build/test-summary/pytest-$name"
exit $status
