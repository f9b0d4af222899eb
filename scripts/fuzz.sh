#!/bin/bash
# fuzz.sh SECONDS PROGRAM...: runs each fuzzer (build/tests/fuzz/NAME) for that long, beginning with its corpus in
# mod_audio_stream/tests/corpus/NAME. What it comes upon stays in build/fuzz/NAME for the next run; an input that breaks
# something is kept as build/fuzz/NAME-crash-*: mend what broke and put it into the corpus.
set -uo pipefail
seconds=$1
shift
[ $# -gt 0 ] || { echo 'no fuzz targets (mod_audio_stream/tests/fuzz_*.c)' >&2; exit 1; }

failed=()
for program in "$@"; do
  name=${program##*/}
  found=build/fuzz/$name
  mkdir -p "$found"
  echo "FUZZ    $name for $seconds s"
  "$program" -max_total_time="$seconds" -print_final_stats=1 -timeout=10 -artifact_prefix="build/fuzz/$name-" \
    "$found" "mod_audio_stream/tests/corpus/$name" >"$found.log" 2>&1 || failed+=("$name")
  grep -E '^(stat::number_of_executed_units|SUMMARY|==.*ERROR)' "$found.log" || tail -n 5 "$found.log"
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]} (see build/fuzz/NAME.log)" >&2; exit 1; }
