# What install-node.sh and install-bridge.sh share; they set the names below and read this file.
#
#   program   mqtt-node or mqtt-bridge: also the account, the unit, and the folders in /opt, /etc and /var/lib
#   settings  the file with its settings, in /etc/$program
#   extras    what is installed of this project, such as node
#   groups    groups of devices that the account joins where they exist
#
# Each step finds what an earlier run has made and leaves it, so an installation is repeated to upgrade or to mend it.

source_folder=$(cd "$(dirname "$0")/.." && pwd)
configuration=/etc/$program
state=/var/lib/$program
environment=/opt/$program
unit=/etc/systemd/system/$program.service
wrapper=/usr/local/bin/$program

fail() {
    echo "$(basename "$0"): $1" >&2
    exit "${2:-1}"
}

say() {
    echo "-- $1"
}

need_root() {
    [ "$(id -u)" = 0 ] || fail "run it with sudo"
    command -v systemctl >/dev/null || fail "there is no systemd here; see docs/deploy.md for other ways"
}

# Python 3.11 or newer with venv; Raspberry Pi OS has both from bookworm on, a minimal Debian lacks venv.
find_python() {
    python=$(command -v python3) || python=
    if [ -z "$python" ] || ! "$python" -c 'import ensurepip' 2>/dev/null; then
        command -v apt-get >/dev/null || fail "Python's venv module is missing; install it"
        say "installing python3-venv"
        apt-get update -q && apt-get install -q -y python3-venv
        python=$(command -v python3)
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$python" --version) is too old; Python 3.11 or newer is needed (Raspberry Pi OS bookworm)"
}

make_account() {
    if ! id "$program" >/dev/null 2>&1; then
        say "account $program"
        useradd --system --user-group --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$program"
    fi
    for group in $groups; do
        if getent group "$group" >/dev/null; then
            usermod --append --groups "$group" "$program"
        fi
    done
    install -d -o root -g "$program" -m 0750 "$configuration"
    install -d -o "$program" -g "$program" -m 0750 "$state"
}

install_program() { # WHAT: a wheel or an address; the sources in this folder unless given
    say "program in $environment (a few minutes on a Raspberry Pi)"
    [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
    sources=$(mktemp -d)
    case $1 in
        "") # built from a copy, so that nothing is left in this folder
            cp -R "$source_folder/pyproject.toml" "$source_folder/README.md" "$source_folder/LICENSE" \
                "$source_folder/mqtt_client" "$source_folder/bridge" "$sources"
            what=file://$sources
            ;;
        *://*) what=$1 ;;
        *) what=file://$(realpath "$1") ;;
    esac
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --upgrade \
        "mqtt-sensor-bridge[$extras] @ $what" ||
        fail "the program could not be installed (above)"
    rm -rf "$sources"
}

# `sudo mqtt-node status` and the like: with the installed settings, as the service's account, which owns the data.
write_wrapper() {
    cat >"$wrapper" <<END
#!/bin/sh
# Runs $program with the settings of the installed service; written by $(basename "$0").
first=\${1:-}
case \$first in
    "" | -*) exec $environment/bin/$program "\$@" ;;
    nodes | broker | dead-letters) words="\$first \${2:-}"; shift \$((\$# < 2 ? \$# : 2)) ;;
    *) words=\$first; shift ;;
esac
set -- \$words --env-file $configuration/$settings "\$@"
case \$(id -u):\$first in
    0:nodes | 0:broker | 0:command) ;; # the broker's own files, or no files of the service at all
    0:*)
        export HOME=$state MPLCONFIGDIR=/var/cache/$program
        exec setpriv --reuid=$program --regid=$program --init-groups $environment/bin/$program "\$@"
        ;;
esac
exec $environment/bin/$program "\$@"
END
    chmod 0755 "$wrapper"
}

# Take NAME=value lines (standard input) into the settings: they replace lines of the same name, all others stay.
merge_settings() {
    file=$configuration/$settings
    [ -e "$file" ] || : >"$file"
    umask 077
    awk -F= '
        NR == FNR { if ($0 ~ /^[A-Z_]+=/) { given[$1] = 1; lines[++count] = $0 } next }
        !($1 in given) { print }
        END { for (number = 1; number <= count; number++) print lines[number] }
    ' - "$file" >"$file.new"
    chown "root:$program" "$file.new"
    chmod 0640 "$file.new"
    mv "$file.new" "$file"
}

# Add a line unless the settings have its name already.
default_setting() { # NAME=VALUE
    grep -q "^${1%%=*}=" "$configuration/$settings" 2>/dev/null || echo "$1" | merge_settings
}

start_service() {
    say "service $program"
    install -m 0644 "$source_folder/deploy/systemd/$program.service" "$unit"
    systemctl daemon-reload
    systemctl enable --quiet "$program"
    "$wrapper" check || [ $? = 1 ] ||
        fail "the settings in $configuration/$settings need a person (above); then: systemctl restart $program" 2
    systemctl restart "$program"
    systemctl --no-pager --lines=0 status "$program"
}

uninstall() { # purge or keep
    systemctl disable --now --quiet "$program" 2>/dev/null || true
    rm -rf "$unit" "$unit.d" "$environment" "$wrapper"
    systemctl daemon-reload
    if [ "$1" = purge ]; then
        rm -rf "$configuration" "$state" "/var/cache/$program"
        if id "$program" >/dev/null 2>&1; then userdel "$program"; fi
        say "$program is gone, with its settings and all its data"
    else
        say "$program is gone; its settings are still in $configuration and its data in $state (--purge removes them)"
    fi
}
