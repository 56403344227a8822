#!/bin/sh
# Builds the images of the shipped functions and loads them into Docker. What did
# not change is left alone: a warm run takes about a second.
#
#   images/build.sh              build programs and images
#   BUILD=dir images/build.sh    keep what is built in dir, not in build/
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
bin=$build/catalog
programs='echo extract-text media-info thumbnail waveform'

command -v docker >/dev/null || { echo 'images/build.sh: there is no docker command; install docker.io' >&2; exit 1; }
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 || { echo 'images/build.sh: the Docker engine does not answer; see docker info' >&2; exit 1; }

packages=
for p in $programs; do packages="$packages ./functions/catalog/$p"; done
mkdir -p "$bin"
# shellcheck disable=SC2086 # a list of words
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' -o "$bin/" $packages
CGO_ENABLED=0 go build -buildvcs=false -o "$build/imagebuild" ./images/imagebuild

if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
	exec "$build/imagebuild" -bin "$bin" -cache "$build/layers"
fi
echo 'images/build.sh: no apt here; building on debian:bookworm-slim'
"$build/imagebuild" -bin "$bin" -cache "$build/layers" -only static
for f in media-info waveform; do
	docker build -q -f images/base/Dockerfile.media --build-arg FUNCTION=$f -t spillway/$f:latest "$bin"
done
docker build -q -f images/base/Dockerfile.documents --build-arg FUNCTION=extract-text -t spillway/extract-text:latest "$bin"
