#!/bin/sh
# Builds the MinIO server that tests run against, from its Go module, into
# .cache/minio/minio. It is never linked into Spillway nor shipped with it: its
# licence is the AGPL. Takes about three minutes once; a second call does nothing.
set -eu

version=v0.0.0-20260212201848-7aac2a2c5b7c # the last one: its makers ended it

root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/.cache/minio
if [ -x "$out/minio" ] && [ "$(cat "$out/version" 2>/dev/null)" = "$version" ]; then
	echo "minio $version is in $out"
	exit 0
fi
mkdir -p "$out"
# Outside the repository, so that MinIO's dependencies do not meet ours.
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
echo "building minio $version into $out (about three minutes)"
(cd "$away" && GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0 GOBIN=$out \
	nice -n 10 go install "github.com/minio/minio@$version")
echo "$version" >"$out/version"
"$out/minio" --version
