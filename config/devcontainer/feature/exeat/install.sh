#!/bin/sh
# Puts the program, and what starts it, into the container's image. URL and SHA256 are the feature's
# options. DESTDIR is for packagers, and for tests.
set -eu

here=$(dirname "$0")
bin="${DESTDIR:-}/usr/local/bin"
share="${DESTDIR:-}/usr/local/share/exeat"
mkdir -p "$bin" "$share"

if [ -f "$here/exeat" ]; then
    cp "$here/exeat" "$bin/exeat"
elif [ -n "${URL:-}" ]; then
    case "${SHA256:-}" in
    '') echo "exeat: the option sha256 is needed with url" >&2; exit 1 ;;
    esac
    fetched=$(mktemp)
    trap 'rm -f "$fetched"' EXIT
    if command -v curl >/dev/null; then
        curl -fsSL -o "$fetched" "$URL"
    elif command -v wget >/dev/null; then
        wget -qO "$fetched" "$URL"
    else
        echo "exeat: neither curl nor wget is there to fetch it" >&2
        exit 1
    fi
    echo "$SHA256  $fetched" | sha256sum -c - >/dev/null || {
        echo "exeat: what $URL has is not what sha256 says" >&2
        exit 1
    }
    cp "$fetched" "$bin/exeat"
else
    echo "exeat: put the program beside install.sh, or set the options url and sha256" >&2
    exit 1
fi
chmod 755 "$bin/exeat"
cp "$here/start.sh" "$share/start.sh"
chmod 755 "$share/start.sh"
