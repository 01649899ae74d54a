#!/usr/bin/env bash
# hack/story/load.sh URL FOLDER: twenty payments a second, each a new connection, until FOLDER/stop exists.
# FOLDER/acknowledged has the key of every payment that was answered with 200 or 201, FOLDER/refused every connection that
# was refused, FOLDER/again every request that was sent again, with the same key, because its answer never came.
set -u
url=$1 folder=$2

pay() {
    local key=$1 code try
    for try in 1 2 3 4 5; do
        code=$(curl -s -o /dev/null -m 30 -w '%{http_code} %{exitcode}' -H "Idempotency-Key: $key" -H 'Content-Type: application/json' \
            -d '{"payer":"ada","payee":"bob","amount":100}' "$url/payments")
        case "$code" in
        '201 0' | '200 0') echo "$key" >>"$folder/acknowledged" && return ;;
        *' 7') echo "$key" >>"$folder/refused" ;;
        *) echo "$key $code" >>"$folder/again" ;;
        esac
        sleep 0.2
    done
    echo "$key" >>"$folder/lost"
}

number=0
while [ ! -e "$folder/stop" ]; do
    number=$((number + 1))
    pay "${3:-p}-$number" &
    sleep 0.05
done
wait
