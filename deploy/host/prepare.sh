#!/bin/bash
# Prepares a Debian host for NovaCron. Quiet where there is nothing to do; one clear line where something is missing.
#
#   prepare.sh packages USE...   installs the missing packages of deploy/host/packages.txt for these uses: run build image test
#   prepare.sh libvirt           sees to it that libvirt answers on qemu:///system
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

fail() { echo "prepare: $*" >&2; exit 1; }

# as_root runs a command as root, through sudo where need be.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "this needs root: run it as root or install sudo"; fi
}

packages() {
  command -v dpkg-query >/dev/null || fail "this is no Debian: install by hand what $here/packages.txt lists"
  local missing=() name use
  for use in "$@"; do
    while read -r name; do
      [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] || missing+=("$name")
    done < <(awk -v use="$use" '$1 == use { print $2 }' "$here/packages.txt")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { as_root apt-get -qq update && as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    fail "packages could not be installed; the whole of apt's answer is in $log"
  fi
  rm -f "$log"
}

answers() { as_root virsh -c qemu:///system version >/dev/null 2>&1; }

# kvm_works tells whether hardware acceleration is there: the processor's flag and the device, not one of them.
kvm_works() { grep -qwE 'vmx|svm' /proc/cpuinfo && [ -c /dev/kvm ]; }

libvirt() {
  answers && return 0
  command -v libvirtd >/dev/null || [ -x /usr/sbin/libvirtd ] || fail "libvirt is not installed: apt-get install libvirt-daemon-system"
  if [ -d /run/systemd/system ]; then
    as_root systemctl start libvirtd || fail "libvirtd does not start: see 'systemctl status libvirtd'"
  else
    start_without_systemd
  fi
  for _ in $(seq 100); do
    answers && return 0
    sleep 0.1
  done
  fail "libvirtd does not answer on qemu:///system; see /var/log/libvirt"
}

# Without systemd the daemons are started here. Where KVM is of no use although its device exists, libvirt would lose half a minute
# probing it, so the device is hidden from the daemons in a mount namespace of their own, in which QEMU's own namespaces are off: they would
# bring the device back. The host's files stay as they are.
start_without_systemd() {
  local inside
  inside=$(as_root mktemp -d /run/novacron-libvirt.XXXXXX)
  as_root bash -c "chmod 0755 $inside; touch $inside/no-kvm; chmod 0000 $inside/no-kvm
    { cat /etc/libvirt/qemu.conf 2>/dev/null || true; echo 'namespaces = []'; } >$inside/qemu.conf"
  local hide=""
  if ! kvm_works && [ -e /dev/kvm ]; then hide="mount --bind $inside/no-kvm /dev/kvm; mount --bind $inside/qemu.conf /etc/libvirt/qemu.conf;"; fi
  as_root mkdir -p /run/libvirt /var/log/libvirt /var/lib/libvirt
  as_root unshare --mount --propagation private bash -c "set -e; $hide pgrep -x virtlogd >/dev/null || virtlogd -d; libvirtd -d" </dev/null >/dev/null 2>&1 ||
    fail "libvirtd does not start; see /var/log/libvirt"
}

case ${1:-} in
packages) shift; packages "$@" ;;
libvirt) libvirt ;;
*) fail "usage: prepare.sh packages USE... | libvirt" ;;
esac
