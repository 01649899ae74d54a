chapter "git tag v1.0.0: a release, signed and pinned; the node verifies and prepares it by itself; then: Go!"
release() { # version
    run git -C ledger tag "v$1"
    push "v$1"
    built "v$1"
    until_true 120 "preparing $1 on the node" prepared "$1"
    nebh node status --settings node.yaml | sed 's/^/     /'
}
prepared() { nebh node status --settings node.yaml --output json | grep -q "\"$1\"" && nebh node status --settings node.yaml | grep -F "$1" | grep -qi 'prepared\|live'; }
version() { curl -fsS "http://$FRONT/version"; }

release 1.0.0
run nebh release show "$GATEWAY/shop/ledger:1.0.0"
run nebh node switch --to 1.0.0 --no-wait --settings node.yaml
run curl -fsS "http://$FRONT/version"
run nebh node commit --settings node.yaml
