# shellcheck shell=bash
# What the scripts in tools/ share: places, one-line messages, and steps that
# log to a file and show how far they are. Sourced, never run.
set -euo pipefail

top=$(CDPATH= cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/dwcp
logs=$build/log
python=/usr/bin/python3

# Debian's own programs come first: a version manager's python has none of
# the modules that QEMU's configure looks for.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export LC_ALL=C.UTF-8
export CCACHE_DIR=${CCACHE_DIR:-$cache/ccache}
export CCACHE_BASEDIR=$build
export CCACHE_NOHASHDIR=1
jobs=${DWCP_JOBS:-$(nproc)}

die()
{
    echo "run: $*" >&2
    exit 1
}

say()
{
    echo "==> $*"
}

# Reads "name value..." rows, comments and blank lines removed.
rows()
{
    sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$1"
}

sha256_of()
{
    sha256sum "$1" | cut -d ' ' -f 1
}

# The patches that a host's series names, as paths.
series_of()
{
    rows "$top/$1/series" | sed "s,^,$top/$1/,"
}

# Shows the last "[n/m]" of a growing log: on a terminal in place, otherwise
# a line a half minute, so that a CI log shows life and stays short.
watch_log()
{
    local name=$1 log=$2 start=$SECONDS pause=30 at last=
    [ ! -t 1 ] || pause=1
    # Waiting on a pipe that stays silent: a sleep would be one more process
    # that outlives this one when it is ended.
    exec 9<> <(:)
    while ! read -r -t $pause -u 9; do
        at=$(tail -c 4000 "$log" | tr '\r' '\n' |
             grep -oE '\[[0-9]+/[0-9]+\]' | tail -n 1) || at=
        [ "$at" != "$last" ] || [ -t 1 ] || continue
        last=$at
        if [ -t 1 ]; then
            printf '\r    %s %s %ss\033[K' "$name" "$at" $((SECONDS - start))
        else
            echo "    $name $at $((SECONDS - start))s"
        fi
    done
}

# step NAME PROGRAM...: runs the program with its output in build/log/NAME.log,
# prints a line with the time taken, and on failure the end of the log.
# (A program: in a shell function set -e would have no effect here.)
step()
{
    local name=$1 log=$logs/$1.log start=$SECONDS rc=0 watcher
    shift
    mkdir -p "$logs"
    : >"$log"
    watch_log "$name" "$log" &
    watcher=$!
    "$@" >"$log" 2>&1 </dev/null || rc=$?
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    [ ! -t 1 ] || printf '\r\033[K'
    if [ $rc -ne 0 ]; then
        echo "run: $name failed (exit code $rc); the end of its log:" >&2
        tail -n 20 "$log" | sed 's/^/    | /' >&2
        die "the whole log is $log"
    fi
    echo "    $name: done in $((SECONDS - start)) s"
}
