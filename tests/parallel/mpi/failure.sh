#!/bin/bash
# failure.sh PROGRAM CLAIM CODE MESSAGE [RANKS]: three ranks of PROGRAM end within seconds, with the exit code and
# the message exactly once. CODE may be any. "skipped" where the program says so.
set -u
program=$1 claim=$2 code=$3 message=$4 ranks=${5:-3}
begin=$(date +%s)
output=$(timeout 60 mpirun ${WEFT_MPIRUN_OPTIONS:-} --oversubscribe --bind-to none -np "$ranks" "$program" "$claim" "$ranks" 2>&1)
got=$?
seconds=$(($(date +%s) - begin))
grep -m1 "skipped:" <<<"$output" && exit 77
count=$(grep -c "$message" <<<"$output")
if { [ "$code" != any ] && [ "$got" != "$code" ]; } || [ "$count" != 1 ] || [ "$seconds" -gt 30 ]; then
  echo "$output"
  echo "exit code $got (want $code), message $count times (want 1), $seconds s (want at most 30)"
  exit 1
fi
echo "ok: exit code $got, one message, $seconds s"
