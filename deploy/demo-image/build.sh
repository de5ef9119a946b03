#!/bin/bash
# Builds the demo guest: bin/demo.qcow2, a real bootable disk with kernel, busybox, DHCP, NoCloud seed, guest agent and serial
# console. Needs neither root nor a loop device: the disk is put together as a file. The result is kept until this folder or a
# package that goes into it changes. Beside it lies OUTPUT.sha256. Several may build at once: the first does, the others wait.
#
#   build.sh [OUTPUT]      default: bin/demo.qcow2
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../bin/demo.qcow2}
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")

fail() { echo "demo image: $*" >&2; exit 1; }

PATH=$PATH:/sbin:/usr/sbin
for tool in apt-get dpkg-deb busybox cpio sfdisk mformat mcopy mke2fs resize2fs syslinux qemu-img depmod flock; do
  command -v "$tool" >/dev/null || fail "$tool is missing; 'deploy/host/prepare.sh packages image' installs it"
done
busybox=$(command -v busybox)
agent=$(command -v qemu-ga) || fail "qemu-ga is missing; 'deploy/host/prepare.sh packages image' installs it"
mbr=/usr/lib/syslinux/mbr/mbr.bin
[ -f "$mbr" ] || fail "$mbr is missing; the package syslinux-common has it"

kernel_package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-[0-9]/ { print $2; exit }'; }
package=$(kernel_package)
if [ -z "$package" ]; then
  { [ "$(id -u)" = 0 ] && apt-get -qq update; } || true
  package=$(kernel_package)
fi
[ -n "$package" ] || fail "the package linux-image-cloud-amd64 is unknown to apt; run 'apt-get update' as root"

kernel_version=$(apt-cache show --no-all-versions "$package" | awk '$1 == "Version:" { print $2; exit }')
stamp=$({ cat "$here"/*; sha256sum "$busybox" "$agent" "$(command -v resize2fs)" "$mbr"; echo "$kernel_version"; } | sha256sum | cut -c1-16)-$package
exec 9>"$out.lock"
flock 9
if [ -f "$out" ] && [ -f "$out.sha256" ] && [ "$(cat "$out.stamp" 2>/dev/null || true)" = "$stamp" ]; then
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work" "$out.tmp"' EXIT
cd "$work"

echo "fetching the kernel ($package $kernel_version)"
apt-get -qq -o APT::Sandbox::User=root download "$package=$kernel_version" >/dev/null 2>"$work/apt.log" || { tail -n 3 "$work/apt.log" >&2; fail "$package could not be downloaded"; }
mkdir kernel
dpkg-deb -x "$package"_*.deb kernel
version=${package#linux-image-}
kernel=kernel/boot/vmlinuz-$version
[ -f "$kernel" ] || fail "the package $package has no kernel where it is expected"

echo "building the initial RAM disk"
# The kernel has no AHCI driver (CONFIG_SATA_AHCI is not set): a CD-ROM is seen on IDE or virtio-scsi, not on Q35's own controller.
modules="virtio_pci virtio_blk virtio_net virtio_console virtio_rng virtio_balloon virtio_scsi ata_piix sd_mod sr_mod ext4 crc32c_generic isofs vfat nls_cp437 nls_ascii button evdev af_packet"
mkdir -p initrd/{bin,dev,proc,sys,root,lib/modules/"$version"}
cp "$busybox" initrd/bin/busybox
mkdir -p base/lib
ln -s "$PWD/kernel/lib/modules" base/lib/modules
depmod -b base "$version"
for module in $modules; do
  # A module may be built into the kernel; then modprobe names no file.
  modprobe -d "$PWD/base" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
done | sort -u | while read -r file; do
  relative=${file#*/lib/modules/}
  mkdir -p "initrd/lib/modules/$(dirname "$relative")"
  cp "kernel/lib/modules/$relative" "initrd/lib/modules/$relative"
done
cp kernel/lib/modules/"$version"/modules.{order,builtin} initrd/lib/modules/"$version"/
depmod -b initrd "$version" 2>/dev/null # it misses files that only describe built-in modules
sed "s/@MODULES@/$modules/" "$here/initramfs-init" >initrd/init
chmod 0755 initrd/init
(cd initrd && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0 | gzip -9) >initrd.gz

echo "building the root file system"
mkdir -p root/{bin,sbin,etc/acpi/PWRF,dev,proc,sys,run,tmp,root,mnt,var/lib/seed,usr/share/{udhcpc,novacron}}
ln -s ../run root/var/run
cp "$busybox" root/bin/busybox
for applet in $("$busybox" --list); do
  [ "$applet" = busybox ] || ln -s busybox "root/bin/$applet"
done
cp "$here/guest-init" root/sbin/init
cp "$here/udhcpc-script" root/usr/share/udhcpc/default.script
cp "$here/shutdown" root/sbin/shutdown
cp "$here/shutdown" root/etc/acpi/PWRF/00000080 # busybox acpid runs it when the power button is pressed
chmod 0755 root/sbin/init root/sbin/shutdown root/etc/acpi/PWRF/00000080 root/usr/share/udhcpc/default.script
cp "$here/cloud-config.awk" root/usr/share/novacron/cloud-config.awk
cp "$agent" root/sbin/qemu-ga
cp "$(command -v resize2fs)" root/sbin/resize2fs
for program in qemu-ga resize2fs; do ldd "root/sbin/$program"; done | grep -o '/[^ ]*' | sort -u | while read -r library; do
  mkdir -p "root$(dirname "$library")"
  cp -L "$library" "root$library"
done
printf 'ID=novacron-demo\nNAME="NovaCron demo guest"\nPRETTY_NAME="NovaCron demo guest"\n' >root/etc/os-release
printf 'root:x:0:0:root:/root:/bin/sh\n' >root/etc/passwd
printf 'root:x:0:\n' >root/etc/group
printf 'hosts: files dns\n' >root/etc/nsswitch.conf # without it glibc passes over /etc/hosts
printf 'root::19000:0:99999:7:::\n' >root/etc/shadow

echo "putting the disk together"
root_start=$((20 * 1024 * 1024))
root_size=$((44 * 1024 * 1024))
truncate -s $((root_start + root_size)) disk.img
printf 'label: dos\nstart=2048, size=%s, type=c, bootable\nstart=%s, type=83\n' $((root_start / 512 - 2048)) $((root_start / 512)) | sfdisk --quiet disk.img
cat >syslinux.cfg <<'S'
DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL vmlinuz
  INITRD initrd.gz
  APPEND console=ttyS0 quiet panic=1 net.ifnames=0
S
boot="disk.img@@1048576"
mformat -i "$boot" -v NOVABOOT -T $((root_start / 512 - 2048)) -h 16 -s 63 ::
mcopy -i "$boot" "$kernel" ::vmlinuz
mcopy -i "$boot" initrd.gz syslinux.cfg ::
syslinux --offset 1048576 --install disk.img
dd if="$mbr" of=disk.img bs=440 count=1 conv=notrunc status=none
# With a journal, because guests are switched off without warning, and with blocks that let it grow to any disk.
mke2fs -q -F -t ext4 -b 4096 -J size=4 -L nova-root -m 0 -E offset=$root_start,root_owner=0:0 -d root disk.img $((root_size / 1024))k
qemu-img convert -c -f raw -O qcow2 disk.img "$out.tmp"
rm -f "$out.stamp" # a stamp never tells of another image than the one that lies there
(cd "$(dirname "$out")" && sha256sum "$(basename "$out").tmp" | sed 's/\.tmp$//') >"$out.sha256"
mv "$out.tmp" "$out"
echo "$stamp" >"$out.stamp"
echo "built $out ($(du -k "$out" | cut -f1) KiB)"
