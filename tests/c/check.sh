#!/bin/sh
# Runs test programs one after the other and adds up their last lines ('N passed, N failed'). A program that ends
# without that line, by a crash or a sanitizer, counts as one failure.
passed=0 failed=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
for program in "$@"; do
  echo "--- $(basename "$program")"
  "$program" >"$log" 2>&1
  status=$?
  cat "$log"
  counts=$(sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
  case $counts in
    '') counts='0 1' && echo "FAIL $(basename "$program") ended with status $status and without its counts" ;;
    *' 0') [ "$status" -eq 0 ] || { counts="${counts% 0} 1" && echo "FAIL $(basename "$program") ended with status $status"; } ;;
  esac
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
