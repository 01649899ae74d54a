chapter "Twenty payments a second, each a new connection; and v1.1.0 the same way, with a new column in the data"
start load "$ROOT/hack/story/load.sh" "http://$FRONT" "$WORK/load"
LOAD=${PIDS[-1]}
count() { [ -e "load/$1" ] && wc -l <"load/$1" || echo 0; }
until_true 20 "the first payments" test -s load/acknowledged
cp -r "$ROOT/buildspecs/ledger/versions/2/." ledger/
commit "payments know when they were made" "2026-01-06T09:00:00Z"
push main
built main
V2=$(digest_of main)
release 1.1.0
run nebh node switch --to 1.1.0 --no-wait --settings node.yaml
version
run nebh node commit --settings node.yaml
sleep 1
tell "payments acknowledged: $(count acknowledged); refused: $(count refused); sent again: $(count again); lost: $(count lost)"
[ "$(count refused)" -eq 0 ] || die "a connection was refused during a switch"
[ "$(count again)" -eq 0 ] || die "a payment had to be sent again during a switch between good releases"
