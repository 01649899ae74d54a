# What every chapter uses: saying, running with the time it took, expecting a refusal, waiting, and cleaning up.

BEGAN=$(date +%s)
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
KEEP=$TARGET/demo
WORK=$(mktemp -d "${TMPDIR:-/tmp}/nebh-demo.XXXXXX")
PIDS=()
PATH=$TARGET/quick:$PATH
export NEBH_KEY_PASSWORD=demo NEBH_STATE=$KEEP/builder
mkdir -p "$KEEP"
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\e[1m' DIM=$'\e[2m' PLAIN=$'\e[0m'; else BOLD='' DIM='' PLAIN=''; fi

say() { printf '%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
tell() { printf '   %s\n' "$*"; }
chapter() { CHAPTER=$((${CHAPTER:-0} + 1)) && printf '\n' && say "$CHAPTER. $*"; }

# Runs one command as a user would type it; shows it, its output, and its time.
run() {
    local from to status=0
    printf '   %s$ %s%s\n' "$DIM" "$*" "$PLAIN"
    from=$(date +%s%N)
    "$@" > >(sed 's/^/     /') 2> >(sed 's/^/     /' >&2) || status=$?
    to=$(date +%s%N)
    sleep 0.05
    printf '     %s(%d.%02d s)%s\n' "$DIM" $(((to - from) / 1000000000)) $(((to - from) / 10000000 % 100)) "$PLAIN"
    return "$status"
}

# A command that has to fail with an exit code and a text; anything else ends the story.
refused() { # code text command…
    local code=$1 text=$2 status=0 output
    shift 2
    printf '   %s$ %s%s\n' "$DIM" "$*" "$PLAIN"
    output=$("$@" 2>&1) || status=$?
    sed 's/^/     /' <<<"$output"
    [ "$status" -eq "$code" ] || die "expected exit code $code, got $status"
    grep -qi -- "$text" <<<"$output" || die "expected a message about: $text"
}

die() {
    printf 'hack/demo: %s\n' "$*" >&2
    tail -n 15 "$WORK"/*.log >&2 2>/dev/null
    exit 1
}

# until_true SECONDS WHAT command…: asks again until the command succeeds.
until_true() {
    local end=$(($(date +%s) + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || die "$what did not happen in time"
        sleep 0.2
    done
}

start() { # name command…: a server in the background, its output in WORK/name.log
    local name=$1
    shift
    printf '   %s$ %s &%s\n' "$DIM" "$*" "$PLAIN"
    "$@" >"$WORK/$name.log" 2>&1 &
    PIDS+=($!)
}


free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

source "$ROOT/hack/story/cleanup.sh"
trap cleanup EXIT
