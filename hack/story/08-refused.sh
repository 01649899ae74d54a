chapter "Refused: an image without a signature, one with a stranger's, and one whose layer was changed"
cp -r "$ROOT/buildspecs/web" web
git -C web init -q -b main
commit_site() { # message
    git -C web add -A
    GIT_COMMITTER_DATE=2026-01-12T09:00:00Z GIT_AUTHOR_DATE=2026-01-12T09:00:00Z \
        git -C web -c user.name=ada -c user.email=ada@shop.example commit -q -m "$1"
}
nebh -q lock web --update >lock.log
commit_site "the shop is open"
refused 3 unsigned nebh build "file://$WORK/web" --to "$GATEWAY/shop/web:1"
refused 3 "not by a trusted key" nebh build "file://$WORK/web" --to "$GATEWAY/shop/web:1" --sign-with keys/stranger.key

layer=$(curl -fsS -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$GATEWAY/v2/shop/ledger/manifests/$V1" |
    grep -o '"digest":"sha256:[0-9a-f]*"' | tail -n 1 | grep -o '[0-9a-f]\{64\}')
file=gateway/blobs/sha256/${layer:0:2}/$layer
tell "somebody changes one byte of layer sha256:${layer:0:12} on the gateway's disk"
chmod u+w "$file"
printf 'X' | dd of="$file" bs=1 seek=100 conv=notrunc status=none
refused 3 "tampered" nebh verify "$GATEWAY/shop/ledger@$V1" --policy trust.yaml
tell "the gateway broke the answer off, took the bytes out of service, and says:"
grep -o 'a blob is damaged.*' gateway.log | sed 's/\x1b\[[0-9;]*m//g; s/^/     /'
tell "pushing the same image again heals it"
run nebh build another-place --to "$GATEWAY/shop/ledger:main-again"
run nebh verify "$GATEWAY/shop/ledger@$V1" --policy trust.yaml
