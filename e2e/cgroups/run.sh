#!/usr/bin/env bash
# Runs the drivers' tests on a host with control groups of one version alone, 2
# or what CGROUP says: a virtual machine with Debian's kernel, on this machine's own files. It needs no
# help of the hardware, and leaves nothing behind but a kernel in .cache.
# TESTS names packages, RUN a pattern of tests, SHORT=1 leaves the long ones out,
# MEMORY is the machine's, in MiB.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
cache=$root/.cache/cgroups
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -e "$cache/vmlinuz" ]; then
	echo "fetching a kernel, once"
	mkdir -p "$cache"
	cd "$work"
	package=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" {print $2; exit}')
	apt-get -q -o APT::Sandbox::User=root download "$package"
	dpkg-deb -x ./*.deb files
	version=$(basename files/lib/modules/*)
	modules=lib/modules/$version
	mkdir -p "ram/$modules/kernel" ram/{bin,dev,proc,sys}
	for part in drivers/virtio drivers/char/hw_random drivers/block/loop.ko net/9p fs/9p fs/netfs fs/fscache fs/overlayfs fs/ext4 fs/jbd2 fs/mbcache.ko crypto arch/x86/crypto lib; do
		[ ! -e "files/$modules/kernel/$part" ] || (cd "files/$modules/kernel" && cp -r --parents "$part" "$work/ram/$modules/kernel/")
	done
	cp "files/$modules"/modules.* "ram/$modules/"
	cp "$(command -v busybox)" ram/bin/busybox
	ln -s busybox ram/bin/sh
	rm -rf "$cache/ram"
	mv ram "$cache/ram"
	cp files/boot/vmlinuz-* "$cache/vmlinuz"
	cd "$root"
fi

# Programs are compiled here, where that is fast, and run there.
make entry
packages=(${TESTS:-./runtime/cgroups ./runtime/oci ./runtime/containerd})
mkdir -p "$cache/tests"
cp -r "$cache/ram" "$work/ram"
cp e2e/cgroups/init "$work/ram/init"
{
	echo "export HOME=/root PATH='$PATH' GOPROXY=off CGO_ENABLED=0 GOCACHE='$(go env GOCACHE)' GOMODCACHE='$(go env GOMODCACHE)'"
	echo "export SPILLWAY_REQUIRE_OCI=1 SPILLWAY_REQUIRE_CONTAINERD=1 SPILLWAY_TEST_PATIENCE=10m"
	echo "uname -r; grep cgroup /proc/mounts; bad=0"
	for p in "${packages[@]}"; do
		program=$cache/tests/$(echo "${p#./}" | tr / -)
		go test -c -o "$program" "$p"
		echo "cd '$root/$p' && '$program' -test.v ${SHORT:+-test.short} -test.timeout=90m -test.run='${RUN:-.}' || bad=1; echo 'FINISHED $p'"
	done
	echo "[ \$bad = 0 ] && echo 'ALL PASSED' || echo 'SOME FAILED'"
} > "$work/ram/job"
(cd "$work/ram" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) > "$work/initrd"

version=${CGROUP:-2}
kernel="console=ttyS0 quiet panic=-1 edd=off cgroups=$version"
[ "$version" = 1 ] || kernel+=" cgroup_no_v1=all"
qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -m "${MEMORY:-4096}" -cpu max -no-reboot -display none -monitor none -serial stdio \
	-kernel "$cache/vmlinuz" -initrd "$work/initrd" -append "$kernel" \
	-device virtio-rng-pci -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
	< /dev/null | tee "$cache/last.log"
grep -q '^ALL PASSED' "$cache/last.log"
