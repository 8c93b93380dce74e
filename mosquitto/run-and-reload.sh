#!/bin/sh
# Runs mosquitto where nobody can signal it, as in a container, and lets it read its files again when they change:
#
#   run-and-reload.sh /path/to/BROKER_DIRECTORY
#
# `mqtt-bridge nodes add|remove` and `broker renew` write there from another container. Needs a POSIX shell only.
set -eu
directory=$1

state() { # changes when one of the files does; each is replaced, never written in place
    ls -il "$directory/mosquitto.conf" "$directory"/*.acl "$directory"/*.passwords "$directory"/server.crt \
        "$directory"/revoked.pem 2> /dev/null | cksum
}

# Started before anything was set up: wait for it.
until [ -s "$directory/mosquitto.conf" ]; do sleep 1; done

before=$(state)
mosquitto -c "$directory/mosquitto.conf" &
broker=$!
trap 'kill -TERM "$broker" 2> /dev/null' TERM INT

while kill -0 "$broker" 2> /dev/null; do
    sleep 1 &
    wait $! || true # a signal ends the wait, so that a stop takes no second
    now=$(state)
    if [ "$now" != "$before" ] && kill -0 "$broker" 2> /dev/null; then
        before=$now
        kill -HUP "$broker"
    fi
done
wait "$broker"
