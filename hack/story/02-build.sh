chapter "git push: a webhook, a hermetic build, a signed image that the gateway admits"
git init -q --bare -b main ledger.git
cat >ledger.git/hooks/post-receive <<END
#!/usr/bin/env bash
# what a forge does after a push: tell the build service, signed with the shared secret
while read -r before after ref; do
    body="{\"ref\":\"\$ref\",\"before\":\"\$before\",\"after\":\"\$after\"}"
    hmac=\$(printf %s "\$body" | openssl dgst -sha256 -hmac "\$(cat $WORK/webhook.secret)" | sed 's/.* //')
    curl -fsS -o /dev/null -H "X-Hub-Signature-256: sha256=\$hmac" -H "X-GitHub-Event: push" -H "Content-Type: application/json" \\
        -H "X-GitHub-Delivery: \$(cat /proc/sys/kernel/random/uuid)" --data-binary "\$body" http://$BUILDER/hooks/shop/ledger
done
END
chmod +x ledger.git/hooks/post-receive

# Commits a version of the application: the first is a folder, later ones are the files that change.
commit() { # message date
    git -C ledger add -A
    GIT_COMMITTER_DATE=$2 GIT_AUTHOR_DATE=$2 git -C ledger -c user.name=ada -c user.email=ada@shop.example commit -q -m "$1"
}
push() { run git -C ledger push -q origin "$@"; }

# Waits for the newest build of a reference to end; `nebh builder list` shows them all, the newest first.
built() { # reference
    local end=$(($(date +%s) + 900)) line
    while line=$(nebh builder list --url "http://$BUILDER" 2>/dev/null | grep -F "$1" | head -n 1); do
        case "$line" in *done*) break ;; *failed*) die "the build of $1 failed: $line" ;; esac
        [ "$(date +%s)" -lt "$end" ] || die "the build of $1 did not end"
        sleep 0.2
    done
    printf '     %s\n' "$line"
}
digest_of() { curl -fsSI -H 'Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json' \
    "http://$GATEWAY/v2/shop/ledger/manifests/$1" | tr -d '\r' | sed -n 's/^docker-content-digest: //Ip'; }

git clone -q ledger.git ledger 2>/dev/null
cp -r "$ROOT/buildspecs/ledger/." ledger/
rm -rf ledger/versions ledger/target
tell "every input gets its digest written into buildspec.lock, from the signed index of Debian and from Cargo.lock"
run nebh lock ledger --update
commit "the ledger takes payments" "2026-01-05T09:00:00Z"
push main
built main
V1=$(digest_of main)
tell "main is $V1"
run nebh verify "$GATEWAY/shop/ledger@$V1" --policy trust.yaml
