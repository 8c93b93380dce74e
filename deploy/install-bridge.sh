#!/bin/sh
# Install the bridge as a service, on any Linux with systemd; run it again to upgrade or to change settings.
#
#   sudo deploy/install-bridge.sh --set SERVER_URL=http://localhost:5000/data     a broker on this machine
#   sudo deploy/install-bridge.sh bridge.env                      with lines of settings, such as the broker account's
#   sudo deploy/install-bridge.sh --uninstall [--purge]           remove it; --purge: with settings, store and archives
#
# Options: --set NAME=VALUE (repeatable), --from WHEEL-OR-URL instead of this folder, --postgres, --no-start.
set -eu

program=mqtt-bridge
settings=bridge.env
extras=bridge
groups=
. "$(dirname "$0")/installation.sh"

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
    exit "$1"
}

lines= from= start=yes action=install purge=keep given=
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
        --postgres) extras=bridge,postgres ;;
        --no-start) start=no ;;
        --uninstall) action=uninstall ;;
        --purge) purge=purge ;;
        -h | --help) usage 0 ;;
        -*) usage 2 >&2 ;;
        *) lines=$1 ;;
    esac
    shift
done

need_root
if [ $action = uninstall ]; then
    uninstall $purge
    exit
fi
[ -z "$lines" ] || [ -r "$lines" ] || fail "$lines: cannot be read" 2
find_python
make_account
install_program "$from"
write_wrapper
[ -z "$lines" ] || sed -n 's/\r$//; /^[A-Z_]*=/p' "$lines" | merge_settings
[ -z "$given" ] || printf %s "$given" | merge_settings
default_setting "STORE_URL=sqlite:///$state/bridge.db"
default_setting "ARCHIVE_DIRECTORY=$state/archives"
default_setting "BACKUP_DIRECTORY=$state/backup"
default_setting "BROKER_DIRECTORY=$configuration/broker"
if [ $start = yes ]; then
    start_service
fi
say "watch it: systemctl status $program, journalctl -u $program -f, sudo $program status"
