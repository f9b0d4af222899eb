#!/bin/bash
# c-tests.sh PROGRAM...: runs each sanitized test program (build/tests/SANITIZER/NAME, build/tests/replay/NAME with its
# corpus), shows the output of those that fail, and leaves one line of summary in build/test-summary/c.
# C_TEST_TIMEOUT_S (default 300) ends one that hangs.
set -uo pipefail
[ $# -gt 0 ] || { echo 'no C test programs' >&2; exit 1; }

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
mkdir -p build/test-summary
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=()

limit() { timeout -k 5 "${C_TEST_TIMEOUT_S:-300}" "$@" >"$log" 2>&1; }

run() { # TSan of older compilers cannot place its memory where the kernel randomises more bits than it knows of
  limit "$@" && return
  grep -q 'ThreadSanitizer: unexpected memory mapping' "$log" || return
  limit setarch "$(uname -m)" -R "$@"
}

for program in "$@"; do
  name=${program#build/tests/}
  start=$EPOCHREALTIME
  corpus=()
  [[ $name != replay/* ]] || corpus=("mod_audio_stream/tests/corpus/${name#replay/}")
  if run "$program" "${corpus[@]}"; then
    passed=$((passed + 1))
    verdict=ok
  else
    failed+=("$name")
    verdict=FAILED
  fi
  printf '%-7s %s %s (%s s)\n' CTEST "$name" "$verdict" "$(echo "$EPOCHREALTIME $start" | awk '{ printf "%.1f", $1 - $2 }')"
  [ $verdict = ok ] || cat "$log"
done

if [ ${#failed[@]} -eq 0 ]; then
  echo "C, ASan+UBSan and TSan: $passed programs passed" | tee build/test-summary/c
else
  echo "C, ASan+UBSan and TSan: $passed programs passed, failed: ${failed[*]}" | tee build/test-summary/c
  exit 1
fi
