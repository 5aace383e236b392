#!/bin/bash
# failure.sh PROGRAM CLAIM EXIT_CODE MESSAGE: three ranks of PROGRAM end within seconds, with the exit code and the message
# exactly once.
set -u
program=$1 claim=$2 code=$3 message=$4
begin=$(date +%s)
output=$(timeout 60 mpirun --oversubscribe --bind-to none -np 3 "$program" "$claim" 3 2>&1)
got=$?
seconds=$(($(date +%s) - begin))
count=$(grep -c "$message" <<<"$output")
if [ "$got" != "$code" ] || [ "$count" != 1 ] || [ "$seconds" -gt 30 ]; then
  echo "$output"
  echo "exit code $got (want $code), message $count times (want 1), $seconds s (want at most 30)"
  exit 1
fi
echo "ok: exit code $got, one message, $seconds s"
