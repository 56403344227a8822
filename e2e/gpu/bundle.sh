#!/bin/sh
# Builds what a machine with an NVIDIA GPU, and nothing else, needs for the whole
# job: one archive of under 60 MB, build/spillway-gpu.tar.xz. There:
#
#   tar xf spillway-gpu.tar.xz && sudo ./spillway-gpu/run
#
# It wants Go, gcc, xz and, for the image, apt of Debian; what was built before is
# kept in .cache. NVIDIA's tools and runc are built from their Go modules.
#
#   e2e/gpu/bundle.sh           the archive
#   e2e/gpu/bundle.sh folder    only the folder build/spillway-gpu
set -eu

toolkit=v1.20.1
runc=v1.4.0

cd "$(dirname "$0")/../.."
root=$(pwd)
cache=$root/.cache/gpu
out=$root/build/spillway-gpu
mkdir -p "$cache/bin" "$cache/speech"
if [ ! -e /usr/include/seccomp.h ] || ! command -v xz >/dev/null; then
	[ "$(id -u)" = 0 ] || { echo 'bundle.sh: install libseccomp-dev and xz-utils, or run this as root' >&2; exit 1; }
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libseccomp-dev xz-utils >/dev/null
fi

# The libraries of NVIDIA are bound when they are first called: -z lazy.
if [ "$(cat "$cache/bin/toolkit" 2>/dev/null)" != $toolkit ]; then
	echo "building NVIDIA Container Toolkit $toolkit"
	(cd "$cache" && GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=1 CGO_CFLAGS='-O2 -Wno-deprecated-declarations' GOBIN=$cache/bin \
		go install -trimpath -ldflags '-s -w -extldflags=-Wl,-z,lazy' \
		"github.com/NVIDIA/nvidia-container-toolkit/cmd/nvidia-ctk@$toolkit" \
		"github.com/NVIDIA/nvidia-container-toolkit/cmd/nvidia-cdi-hook@$toolkit")
	echo $toolkit >"$cache/bin/toolkit"
fi
# runc is not built by go install: its main needs a version, and its folder is copied for that.
if [ "$(cat "$cache/bin/runc.version" 2>/dev/null)" != $runc ]; then
	echo "building runc $runc"
	away=$(mktemp -d)
	trap 'chmod -R u+w "$away"; rm -rf "$away"' EXIT
	source=$(cd "$away" && GOWORK=off go mod download -json "github.com/opencontainers/runc@$runc" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	cp -r "$source" "$away/runc"
	chmod -R u+w "$away/runc"
	(cd "$away/runc" && GOWORK=off CGO_ENABLED=1 go build -mod=mod -trimpath -tags 'seccomp netgo osusergo' \
		-ldflags "-s -w -extldflags=-static -X main.version=${runc#v}" -o "$cache/bin/runc" .)
	echo $runc >"$cache/bin/runc.version"
fi
./deploy/containerd/build.sh

make -s -C e2e/gpu/speech OUT="$cache/speech"
make -s entry
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$cache/pack" ./e2e/gpu/pack

rm -rf "$out"
mkdir -p "$out/bin" "$out/images"
"$cache/pack" -program "$cache/speech/speech" -cache "$cache" -out "$out/images/speech.tar"
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/bin/spillway" ./cmd/spillway
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/run" ./e2e/gpu/run
if [ -d cmd/gpuprobe ]; then
	CGO_ENABLED=1 CGO_CFLAGS='-O2 -Wno-deprecated-declarations' go build -trimpath -buildvcs=false \
		-ldflags '-s -w -extldflags=-Wl,-z,lazy' -o "$out/bin/gpuprobe" ./cmd/gpuprobe
fi
cp "$cache/bin/nvidia-ctk" "$cache/bin/nvidia-cdi-hook" "$cache/bin/runc" "$out/bin/"
for program in containerd containerd-shim-runc-v2; do
	strip -o "$out/bin/$program" "$root/.cache/containerd/$program"
done
[ "${1:-}" = folder ] && { du -sh "$out"; exit 0; }
XZ_OPT='-T0 -6' tar -C "$root/build" --owner=0 --group=0 --numeric-owner -cJf "$out.tar.xz" spillway-gpu
size=$(stat -c %s "$out.tar.xz")
echo "$out.tar.xz: $((size / 1000000)) MB"
[ "$size" -le 60000000 ] || { echo 'bundle.sh: the archive is over 60 MB' >&2; exit 1; }
