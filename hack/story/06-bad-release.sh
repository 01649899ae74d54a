chapter "v1.2.0 comes up alive, is opened, takes payments, and dies. The node goes back by itself, with the new data"
cp -r "$ROOT/buildspecs/ledger/versions/3/." ledger/
commit "count payments by bucket" "2026-01-09T16:55:00Z"
push main
built main
release 1.2.0
status=0
run nebh node switch --to 1.2.0 --settings node.yaml || status=$?
tell "exit code $status: 5 means changed back"
[ "$status" -eq 5 ] || die "expected exit code 5"
until_true 30 "v1.1.0 serving again" sh -c "curl -fsS http://$FRONT/version | grep -q 1.1.0"
run curl -fsS "http://$FRONT/version"
sleep 1
touch load/stop
wait "$LOAD" || true
rm load/stop

listed() { curl -fsS "http://$FRONT/payments" | tr '}' '\n' | sed -n 's/.*"key":"\([^"]*\)".*/\1/p' | sort -u; }
every_payment_is_listed() {
    local missing
    missing=$(sort -u load/acknowledged | comm -23 - <(listed) | wc -l)
    tell "acknowledged: $(sort -u load/acknowledged | wc -l), listed now: $(listed | wc -l), acknowledged and missing: $missing"
    [ "$missing" -eq 0 ]
}
every_payment_is_listed || die "an acknowledged payment is gone"
tell "connections refused: $(count refused); lost for good: $(count lost); sent again, because the crash took the answer with it: $(count again)"
[ "$(count refused)" -eq 0 ] && [ "$(count lost)" -eq 0 ] || die "the load was refused"
