#!/bin/sh
# Starts this machine as a GPU node of Spillway: checks that containers can have its
# GPUs, and runs "spillway node" with the arguments that are given. Run it as root.
#
#   deploy/start-gpu-node.sh [--anyway] [arguments of spillway node]
#
# --anyway starts although a check fails; what only prefers a GPU then runs on the
# CPU. Settings come from the arguments, from the environment (SPILLWAY_ENGINE_URL,
# SPILLWAY_ENGINE_TOKEN, SPILLWAY_STORE_ENDPOINT, SPILLWAY_STORE_ACCESS_KEY,
# SPILLWAY_STORE_SECRET_KEY) and from the file that NODE_ENV_FILE names,
# /etc/spillway/node.env, with lines NAME=value. SPILLWAY names the program, where it
# is neither in ../bin nor in PATH.
set -eu

say() { printf 'start-gpu-node: %s\n' "$*" >&2; }

anyway=
if [ "${1:-}" = --anyway ]; then
	anyway=1
	shift
fi

file=${NODE_ENV_FILE:-/etc/spillway/node.env}
if [ -r "$file" ]; then
	# Read, not executed: systemd takes the same file, and a value is no command.
	while IFS= read -r line || [ -n "$line" ]; do
		case $line in
		SPILLWAY_*=*)
			name=${line%%=*}
			value=${line#*=}
			case $name in
			*[!A-Z0-9_]*)
				say "$file: $name is no name of a setting"
				exit 2
				;;
			esac
			if ! printenv "$name" >/dev/null; then # the environment goes first
				export "$name=$value"
			fi
			;;
		'' | '#'*) ;;
		*)
			say "$file: a line is no SPILLWAY_NAME=value"
			exit 2
			;;
		esac
	done <"$file"
elif [ -n "${NODE_ENV_FILE:-}" ]; then
	say "$file cannot be read"
	exit 2
fi

here=$(cd "$(dirname "$0")" && pwd)
spillway=${SPILLWAY:-}
if [ -z "$spillway" ] && [ -x "$here/../bin/spillway" ]; then
	spillway=$here/../bin/spillway
fi
spillway=${spillway:-spillway}
if ! command -v "$spillway" >/dev/null; then
	say "there is no $spillway: install it into /usr/local/bin, or name it in SPILLWAY"
	exit 2
fi

if [ "$(id -u)" != 0 ]; then
	say "not root: Docker may refuse this user, and containerd and oci do"
fi

say "checking this machine's GPUs"
if ! "$spillway" doctor --gpu >&2; then
	if [ -z "$anyway" ]; then
		say "not started: mend what failed, the first one first (deploy/gpu-host.md), or start with --anyway"
		exit 1
	fi
	say "starting all the same: what only prefers a GPU runs on the CPU"
fi
exec "$spillway" node "$@"
