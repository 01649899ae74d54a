chapter "The same commit built again, elsewhere: another folder, user name, host name, time zone, umask, state folder; no network"
git clone -q ledger.git another-place
ELSEWHERE=$KEEP/elsewhere
mkdir -p "$ELSEWHERE"
rm -rf "$ELSEWHERE"/{inputs,images,kept/plans}
cp -al "$KEEP/builder/inputs" "$ELSEWHERE/inputs"
again() {
    (
        umask 0077
        cd another-place
        env -i PATH="$PATH" HOME="$WORK" USER=somebody LOGNAME=somebody TZ=Pacific/Auckland LC_ALL=C NEBH_STATE="$ELSEWHERE" \
            unshare --uts sh -c 'hostname elsewhere && exec "$@"' sh nebh -q build . --offline
    )
}
SECOND=$(again) || die "the second build failed"
tell "here:      $V1"
tell "elsewhere: $SECOND"
[ "$V1" = "$SECOND" ] || die "two builds of one commit differ"
tell "and once more: the plan is known, nothing runs"
run env NEBH_STATE="$ELSEWHERE" nebh build another-place --offline
