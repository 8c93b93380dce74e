#!/bin/sh
# Install the node as a service, on a Raspberry Pi or any Linux with systemd; run it again to upgrade or to change
# settings.
#
#   sudo deploy/install-node.sh kitchen.env                       the file that `mqtt-bridge nodes add kitchen` wrote
#   sudo deploy/install-node.sh --set MQTT_HOST=192.168.1.10      without such a file
#   sudo deploy/install-node.sh --set NODE_SENSORS=main=iio       change a setting, or several
#   sudo deploy/install-node.sh --uninstall [--purge]             remove it; --purge: with settings and readings
#
# Options: --set NAME=VALUE (repeatable), --from WHEEL-OR-URL instead of this folder, --no-start.
set -eu

program=mqtt-node
settings=node.env
extras=node
groups="gpio i2c spi"
. "$(dirname "$0")/installation.sh"

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
    exit "$1"
}

# Settings and certificates of NAME.env: lines NAME=value, then `#file NAME` and its lines, each behind a `#`.
take_node_file() { # FILE
    [ -r "$1" ] || fail "$1: cannot be read" 2
    grep -q '^[A-Z_]*=' "$1" || fail "$1: holds no settings; allowed is the file that 'mqtt-bridge nodes add' wrote" 2
    umask 077
    for name in $(sed -n 's/^#file //p' "$1"); do
        case $name in
            */* | .* | *[!A-Za-z0-9._-]*) fail "$1: '$name' is no file name" 2 ;;
        esac
        awk -v wanted="$name" '/^#file /{on = $2 == wanted; next} on && /^#/{print substr($0, 2)}' "$1" \
            >"$configuration/$name.new"
        chown "root:$program" "$configuration/$name.new"
        chmod 0640 "$configuration/$name.new"
        mv "$configuration/$name.new" "$configuration/$name"
    done
    sed -n 's/\r$//; /^[A-Z_]*=/p' "$1" |
        sed -E "s#^(MQTT_TLS_(CA|CERT|KEY))=([^/].*)#\1=$configuration/\3#" | merge_settings
}

node_file= from= start=yes action=install purge=keep given=
while [ $# -gt 0 ]; do
    case $1 in
        --set)
            case ${2:-} in
                [A-Z]*=*) given="$given$2
" ;;
                *) fail "--set '${2:-}' was given; allowed is NAME=VALUE" 2 ;;
            esac
            shift
            ;;
        --from) from=${2:?--from needs a wheel or an address} && shift ;;
        --no-start) start=no ;;
        --uninstall) action=uninstall ;;
        --purge) purge=purge ;;
        -h | --help) usage 0 ;;
        -*) usage 2 >&2 ;;
        *) node_file=$1 ;;
    esac
    shift
done

need_root
if [ $action = uninstall ]; then
    uninstall $purge
    exit
fi
[ -z "$node_file" ] || [ -r "$node_file" ] || fail "$node_file: cannot be read" 2
[ -n "$node_file$given" ] || [ -e "$configuration/$settings" ] ||
    fail "which broker? Give the file that 'mqtt-bridge nodes add' wrote, or --set MQTT_HOST=…" 2
[ ! -e /dev/gpiochip0 ] || case $(uname -m) in arm* | aarch64) extras=pi ;; esac
find_python
make_account
install_program "$from"
write_wrapper
[ -z "$node_file" ] || take_node_file "$node_file"
[ -z "$given" ] || printf %s "$given" | merge_settings
default_setting "OUTBOX_PATH=$state/outbox.db"
if [ $start = yes ]; then
    start_service
fi
[ -z "$node_file" ] || say "delete $node_file now: its secret is in $configuration/$settings"
say "watch it: systemctl status $program, journalctl -u $program -f, sudo $program status"
