#!/bin/bash
# Prepares a Debian host for NovaCron. Quiet where there is nothing to do; one clear line where something is missing. What needs root is
# done through sudo, where need be.
#
#   prepare.sh packages USE...   installs the missing packages of deploy/host/packages.txt for these uses: run build image test
#   prepare.sh libvirt           sees to it that libvirt answers on qemu:///system
#   prepare.sh go                tells whether the Go that go.mod asks for is there
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

fail() { echo "prepare: $*" >&2; exit 1; }

# need_root fails with a word that is heard; as_root is often called with its output sent elsewhere.
need_root() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || fail "to $1 needs root: run this as root or install sudo"; }

# as_root runs a command as root.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

packages() {
  command -v dpkg-query >/dev/null || fail "this is no Debian: install by hand what $here/packages.txt lists"
  local missing=() name use
  for use in "$@"; do
    [ -n "$(awk -v use="$use" '$1 == use' "$here/packages.txt")" ] || fail "packages.txt knows no use $use"
    while read -r name; do
      [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] || missing+=("$name")
    done < <(awk -v use="$use" '$1 == use { print $2 }' "$here/packages.txt")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  need_root "install ${missing[*]}"
  echo "installing ${missing[*]}"
  local log
  log=$(mktemp)
  # An archive that does not answer need not be the one that is needed, so apt decides when it installs.
  as_root apt-get -qq update >"$log" 2>&1 || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >>"$log" 2>&1 ||
    fail "packages could not be installed: $(grep '^E:' "$log" | head -n 1 || true) (all of apt's answer is in $log)"
  rm -f "$log"
}

answers() { as_root virsh -c qemu:///system version >/dev/null 2>&1; }

# kvm_works tells whether hardware acceleration is there: the processor's flag and the device, not one of them.
kvm_works() { grep -qwE 'vmx|svm' /proc/cpuinfo && [ -c /dev/kvm ]; }

libvirt() {
  need_root "start libvirt"
  for tool in virsh libvirtd virtlogd; do
    command -v $tool >/dev/null || fail "$tool is missing: 'prepare.sh packages run' installs it"
  done
  answers && return 0
  if [ -d /run/systemd/system ]; then
    as_root systemctl start libvirtd || fail "libvirtd does not start: see 'systemctl status libvirtd'"
  else
    start_without_systemd
  fi
  for _ in $(seq 100); do
    answers && return 0
    sleep 0.1
  done
  fail "libvirtd does not answer on qemu:///system; see /var/log/libvirt, or run 'libvirtd' by hand to see why"
}

# Without systemd the daemons are started here. Where KVM is of no use although its device exists, libvirt would lose half a minute
# probing it, so the device is hidden from the daemons in a mount namespace of their own, in which QEMU's own namespaces are off: they would
# bring the device back. A file without permissions does it for QEMU's user, which is not root on Debian. The host's files stay as they are.
# Whether it worked shows in libvirt's answer: another one may be starting it at the same time, and virtlogd may be there already.
start_without_systemd() {
  local hide=0
  if [ -e /dev/kvm ] && ! kvm_works; then hide=1; fi
  # shellcheck disable=SC2016 # the inner shell expands it
  as_root unshare --mount --propagation private bash -c '
    set -e
    mkdir -p /run/libvirt /var/log/libvirt /var/lib/libvirt /run/novacron-libvirt
    if [ "$1" = 1 ]; then
      inside=$(mktemp -d /run/novacron-libvirt/XXXXXX)
      touch "$inside/no-kvm"
      chmod 0000 "$inside/no-kvm"
      { sed "/^[[:space:]]*namespaces[[:space:]]*=/d" /etc/libvirt/qemu.conf || true; echo "namespaces = []"; } >"$inside/qemu.conf"
      [ -e /etc/libvirt/qemu.conf ] || touch /etc/libvirt/qemu.conf
      mount --bind "$inside/no-kvm" /dev/kvm
      mount --bind "$inside/qemu.conf" /etc/libvirt/qemu.conf
      rm -r "$inside" # the mounts keep the files
    fi
    virtlogd -d || true
    libvirtd -d' prepare $hide </dev/null >/dev/null 2>&1 || true
}

# go_there tells whether the Go there is the one that go.mod asks for. From 1.21 on Go fetches a newer one of itself.
go_there() {
  local need have
  need=$(awk '$1 == "go" { print $2 }' "$here/../../go.mod")
  command -v go >/dev/null ||
    fail "Go $need or later is needed to build NovaCron, and Debian 12's package golang is older: unpack Go's own distribution and put its bin folder on the PATH"
  have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || true)
  have=${have#go}
  [ "$(printf '%s\n1.21\n' "${have:-0}" | sort -V | head -n 1)" = 1.21 ] ||
    fail "Go $need or later is needed to build NovaCron, and $(command -v go) is ${have:-not usable}: put a newer one first on the PATH"
}

case ${1:-} in
packages) shift; packages "$@" ;;
libvirt) libvirt ;;
go) go_there ;;
*) fail "usage: prepare.sh packages USE... | libvirt | go" ;;
esac
