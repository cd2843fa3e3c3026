#!/usr/bin/env bash
# Prints the events of an execution, one JSON object a line, none missing or doubled when connections are cut:
#
#     bash follow.sh http://localhost:8000 exec_20260131120000_0a1b2c3d
#
# SANDBOX_KEY is the key, if the server asks for one.
set -u
[ $# = 2 ] || { echo "usage: bash follow.sh URL EXECUTION" >&2; exit 2; }
seen=0
while :; do
  # `read` fails for a last line without its end, so an event that was cut is not counted and comes again.
  while IFS= read -r line; do
    [[ $line =~ ^\{\"seq\":([0-9]+),\"type\":\"([a-z]+)\" ]] || continue
    printf '%s\n' "$line"
    seen=${BASH_REMATCH[1]}
    [ "${BASH_REMATCH[2]}" != end ] || exit 0
  done < <(exec curl -sSN --fail "$1/api/v1/executions/$2/events" -H 'Accept: application/x-ndjson' \
    -H "Last-Event-ID: $seen" -H "X-API-Key: ${SANDBOX_KEY:-}")
  wait $!
  # 22: the server refused.
  [ $? != 22 ] || exit 1
  sleep 0.5
done
