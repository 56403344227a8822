#!/bin/sh
# Builds the containerd 2.x server and its shim that tests run against, from
# their Go module, into .cache/containerd. They are never linked into Spillway
# nor shipped with it. Takes about three minutes once; a second call does nothing.
set -eu

version=v2.4.2 # the one whose client the containerd driver uses

root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/.cache/containerd
if [ -x "$out/containerd" ] && [ -x "$out/containerd-shim-runc-v2" ] && [ "$(cat "$out/version" 2>/dev/null)" = "$version" ]; then
	echo "containerd $version is in $out"
	exit 0
fi
mkdir -p "$out"
# Outside the repository, so that containerd's dependencies do not meet ours.
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
echo "building containerd $version into $out (about three minutes)"
(cd "$away" && GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0 GOBIN=$out \
	nice -n 10 go install \
	"github.com/containerd/containerd/v2/cmd/containerd@$version" \
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@$version")
echo "$version" >"$out/version"
"$out/containerd" --version
