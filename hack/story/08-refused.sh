chapter "Refused: an image without a signature, one with a stranger's, and one whose layer was changed"
nebh -q build another-place --oci "$WORK/copy" >/dev/null
refused 3 unsigned nebh build another-place --to "$GATEWAY/shop/ledger:unsigned"
refused 3 untrusted nebh build another-place --to "$GATEWAY/shop/ledger:foreign" --sign-with keys/stranger.key
layer=$(ls -S "$WORK/gateway"/blobs/sha256/*/* 2>/dev/null | head -n 1)
[ -n "$layer" ] || layer=$(find "$WORK/gateway" -type f -size +100k -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
tell "one byte of $(basename "$layer") is changed on the gateway's disk"
chmod u+w "$layer"
printf 'X' | dd of="$layer" bs=1 seek=100 conv=notrunc status=none
refused 3 tampered nebh node prepare --to 1.0.0 --settings fresh-node.yaml
