#!/usr/bin/env bash
# Makes sure that this machine has what building and testing needs, and says
# what it installs. Installing needs Debian or Ubuntu and root; anywhere else it
# names what is missing and stops.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

apt_ready=
log=${DOCKERD_LOG:-/var/log/dockerd.log}
install() {
	if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
		say "missing: $*. Install it, or run this as root on Debian or Ubuntu."
		exit 1
	fi
	say "installing $* from Debian's packages"
	if [ -z "$apt_ready" ]; then
		apt-get update -qq
		apt_ready=1
	fi
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

need() { # command, package
	command -v "$1" >/dev/null || install "$2"
}

if ! command -v go >/dev/null; then
	say "Go is missing: install Go 1.26 or newer from https://go.dev/dl/"
	exit 1
fi
need git git
need curl curl

if ! docker info >/dev/null 2>&1; then
	if ! command -v dockerd >/dev/null; then
		install docker.io
	fi
	if ! docker info >/dev/null 2>&1; then
		say "starting the Docker Engine"
		if [ -d /run/systemd/system ]; then
			systemctl start docker
		elif [ "$(id -u)" = 0 ]; then
			nohup dockerd >"$log" 2>&1 &
		fi
		for _ in $(seq 100); do
			docker info >/dev/null 2>&1 && break
			sleep 0.3
		done
		docker info >/dev/null || { say "the Docker Engine does not start; see $log"; exit 1; }
	fi
fi

if [ "${1:-}" = test ]; then
	need gcc gcc # the race detector needs cgo, and gpuprobe and its tests do
	[ -e /usr/include/stdio.h ] || install libc6-dev
	need mkfs.ext4 e2fsprogs
	need busybox busybox-static
	need shellcheck shellcheck
	need crun crun # the runtimes that do without Docker; the next two come with Docker on Debian
	need runc runc
	need containerd containerd
	need ip iproute2 # network namespaces with cables that tests cut
	[ -x /usr/bin/aws ] || install awscli # another aws may be on PATH; tests want Debian's
	/usr/bin/python3 -c 'import boto3' 2>/dev/null || install python3-boto3 # for Debian's python3, as above
	need chromium chromium # for the tests of the web page
fi

if [ "${1:-}" = cgroup2 ]; then # the virtual machine and the runtimes that are tested in it
	need qemu-system-x86_64 qemu-system-x86
	need busybox busybox-static
	need crun crun
	need runc runc
	need containerd containerd
fi

if [ "${1:-}" = bench ]; then # what the benchmarks compare with; what is missing there is named as skipped
	need crun crun
	need podman podman
	need redis-server redis-server
	[ -x /usr/bin/celery ] || install celery
	/usr/bin/python3 -c 'import redis' 2>/dev/null || install python3-redis
	[ -e /usr/lib/postgresql ] || install postgresql
fi
