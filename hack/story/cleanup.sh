# Ends what the story started, by process id, and removes its folder. The node's containers and its entrance outlive the
# agent on purpose; here they are ended too.

cleanup() {
    local status=$? pid id
    trap - EXIT
    set +e
    touch "$WORK/load/stop" 2>/dev/null
    for pid in "${PIDS[@]}"; do kill -TERM "$pid" 2>/dev/null; done
    for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null; done
    # whatever still has its files below the story's folder is the story's
    for pid in $(grep -lsF "$WORK" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
        [ "$pid" = "$$" ] || kill -KILL "$pid" 2>/dev/null
    done
    for id in $(find "$WORK/node" -maxdepth 4 -name state.json -printf '%h\n' 2>/dev/null); do
        runc --root "$(dirname "$id")" delete --force "$(basename "$id")" 2>/dev/null
    done
    awk -v below="$WORK/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount "$mount" 2>/dev/null || umount -l "$mount"
    done
    if [ "$status" -ne 0 ] && [ -n "${NEBH_DEMO_KEEP:-}" ]; then
        echo "kept: $WORK" >&2
    else
        rm -rf --one-file-system "$WORK"
    fi
    exit "$status"
}
