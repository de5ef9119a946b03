#!/bin/bash
# Builds a whole Debian 12 for tests: systemd, cloud-init, networkd, SSH and the guest agent, as Debian's own cloud image has them, on a disk that boots.
# Like the demo image it is put together as files, without a loop device; Debian's packages are installed by mmdebstrap, in name spaces
# that end with it. It takes a minute or two, so the result is kept until this folder, the kernel or cloud-init changes, for all checkouts of the
# same user. Several may build at once: the first does, the others wait.
#
#   build.sh [OUTPUT]      default: debian.qcow2 in the user's cache
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/novacron-test/debian.qcow2} # as testhost.DebianImage
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
suite=bookworm

fail() { echo "debian image: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "files of other users go into it, which takes root"
PATH=$PATH:/sbin:/usr/sbin
for tool in apt-get mmdebstrap sfdisk mformat mcopy mke2fs syslinux qemu-img flock; do
  command -v "$tool" >/dev/null || fail "$tool is missing; 'deploy/host/prepare.sh packages image test' installs it"
done
mbr=/usr/lib/syslinux/mbr/mbr.bin
[ -f "$mbr" ] || fail "$mbr is missing; the package syslinux-common has it"

# The packages come from where this machine's own come from, so that a mirror or proxy of the house is used.
sources() {
  # shellcheck disable=SC2016 # apt expands it
  apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
    awk -v suite="$suite" '$3 ~ "^" suite "(-updates|-security)?$" && $4 == "main"' | sort -u
}
versions() { apt-cache show --no-all-versions linux-image-cloud-amd64 cloud-init 2>/dev/null | awk '$1 == "Version:" { print $2 }'; }
if [ -z "$(sources)" ] || [ "$(versions | wc -l)" != 2 ]; then
  apt-get -qq update || true # what matters is whether mmdebstrap finds its packages
fi
list=$(sources)
[ -n "$list" ] || fail "this machine's apt knows no archive of Debian $suite"

stamp=$({ cat "$here"/*; versions; sha256sum "$mbr"; } | sha256sum | cut -c1-16)
exec 9>"$out.lock"
flock 9
if [ -f "$out" ] && [ "$(cat "$out.stamp" 2>/dev/null || true)" = "$stamp" ]; then
  exit 0
fi

# Whoever was killed here left its folder, and no process: they would hold the lock, which they inherit.
work=$out.work
clean() { rm -rf --one-file-system "$work" "$out.tmp"; }
clean
trap clean EXIT
mkdir "$work"
cd "$work"

echo "installing Debian ($suite)"
packages=$(sed 's/ *#.*//' "$here/packages.txt" | paste -sd, | sed 's/,,*/,/g; s/^,//')
options=()
while read -r line; do options+=(--aptopt="$line"); done < <(apt-config dump | grep -iE '^Acquire::(https?::.*proxy|Check-Valid-Until|Retries) ' || true)
echo "$list" | mmdebstrap --quiet --variant=minbase --include="$packages" "${options[@]}" --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  "$suite" root - >mmdebstrap.log 2>&1 || { tail -n 20 mmdebstrap.log >&2; fail "Debian could not be installed"; }

echo "putting the disk together"
cp root/boot/vmlinuz-* vmlinuz
cp root/boot/initrd.img-* initrd.gz
rm root/boot/initrd.img-* root/etc/dpkg/dpkg.cfg.d/99mmdebstrap
cp "$here/cloud.cfg" root/etc/cloud/cloud.cfg.d/90_test.cfg
echo 'LABEL=debian-root / ext4 defaults,errors=remount-ro 0 1' >root/etc/fstab
# What makes a machine one of its own is made at its first boot.
rm -f root/etc/ssh/ssh_host_*_key* root/etc/hostname
: >root/etc/machine-id

root_start=$((80 * 1024 * 1024))
root_size=$((900 * 1024 * 1024))
truncate -s $((root_start + root_size)) disk.img
printf 'label: dos\nstart=2048, size=%s, type=c, bootable\nstart=%s, type=83\n' $((root_start / 512 - 2048)) $((root_start / 512)) | sfdisk --quiet disk.img
cat >syslinux.cfg <<'S'
DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL vmlinuz
  INITRD initrd.gz
  APPEND root=LABEL=debian-root ro console=ttyS0 quiet panic=1
S
boot="disk.img@@1048576"
mformat -i "$boot" -v DEBIANBOOT -T $((root_start / 512 - 2048)) -h 16 -s 63 ::
mcopy -i "$boot" vmlinuz initrd.gz syslinux.cfg ::
syslinux --offset 1048576 --install disk.img
dd if="$mbr" of=disk.img bs=440 count=1 conv=notrunc status=none
mke2fs -q -F -t ext4 -b 4096 -J size=8 -L debian-root -m 0 -E offset=$root_start,root_owner=0:0 -d root disk.img $((root_size / 1024))k
qemu-img convert -f raw -O qcow2 disk.img "$out.tmp"
rm -f "$out.stamp" # a stamp never tells of another image than the one that lies there
mv "$out.tmp" "$out"
echo "$stamp" >"$out.stamp"
echo "built $out ($(du -k "$out" | cut -f1) KiB)"
