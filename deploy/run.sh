#!/bin/bash
# 'make run': from a fresh machine to a booted virtual machine, made through the public API. It stays in the foreground; Ctrl-C stops
# NovaCron and leaves guests running, and the next run finds them again.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${NOVACRON_DATA_DIR:-/var/lib/novacron}
listen=${NOVACRON_HTTP_LISTEN:-127.0.0.1:8080}
api=http://$listen/api/v1

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { echo "make run: $*" >&2; exit 1; }

sudo=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail "this needs root: run it as root or install sudo"
  sudo=(sudo "--preserve-env=NOVACRON_DATA_DIR,NOVACRON_HTTP_LISTEN,NOVACRON_DATABASE_URL,NOVACRON_REDIS_URL")
fi
deploy/host/prepare.sh go || exit 1

say "packages"
deploy/host/prepare.sh packages run build image
say "building bin/novacron"
make -s build
say "demo image"
deploy/demo-image/build.sh bin/demo.qcow2
say "libvirt"
deploy/host/prepare.sh libvirt

say "starting NovaCron"
log=$(mktemp /tmp/novacron-run.XXXXXX.log)
"${sudo[@]}" bin/novacron serve --data-dir "$data" --listen "$listen" > >(tee "$log" | grep --line-buffered -v '^{') 2>&1 &
server=$!
stop() {
  trap - INT TERM EXIT
  say "stopping NovaCron; guests run on"
  "${sudo[@]}" kill -TERM "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  exit "${1:-0}"
}
trap 'stop 0' INT TERM
trap 'stop 1' EXIT

for _ in $(seq 600); do
  kill -0 "$server" 2>/dev/null || { tail -n 3 "$log" >&2; trap - EXIT; fail "NovaCron did not start; its log is $log"; }
  curl -sf "http://$listen/ready" >/dev/null && break
  sleep 0.2
done
curl -sf "http://$listen/ready" >/dev/null || { curl -s "http://$listen/ready" >&2; fail "NovaCron is not ready; its log is $log"; }

password_file=$data/initial-admin-password
if ! "${sudo[@]}" test -f "$password_file"; then
  say "NovaCron is up at http://$listen; the admin's password has been changed, so log in yourself: bin/novacron login --server http://$listen"
  wait "$server"
  stop 0
fi
password=$("${sudo[@]}" cat "$password_file")

# The client keeps its tokens apart from those of the person who runs this.
XDG_CONFIG_HOME=$(mktemp -d)
export XDG_CONFIG_HOME NOVACRON_SERVER=http://$listen
NOVACRON_PASSWORD=$password bin/novacron login --username admin >/dev/null

say "demo image, network and virtual machine through $api"
[ -n "$(bin/novacron image list -q --name demo)" ] || bin/novacron image import bin/demo.qcow2 --name demo
[ -n "$(bin/novacron network list -q --name demo)" ] || bin/novacron network create demo --mode nat
if [ -z "$(bin/novacron vm list -q --name demo)" ]; then
  bin/novacron vm create demo --image demo --network demo --vcpus 1 --memory 256M --disk 1G
else
  bin/novacron vm start demo
fi

say "waiting for the guest's greeting on its serial console"
greeting=""
for _ in $(seq 240); do
  greeting=$(bin/novacron vm logs demo 2>/dev/null | tr -d '\r' | grep -o 'NovaCron guest .* ready' | tail -n 1 || true)
  [ -z "$greeting" ] || break
  sleep 0.5
done
[ -n "$greeting" ] || { bin/novacron vm logs demo | tail -n 20 >&2 || true; fail "the guest did not greet within two minutes"; }
for _ in $(seq 40); do
  bin/novacron vm show demo -o json | tr -d '\n ' | grep -q '"addresses":\["' && break
  sleep 0.5
done

echo
bin/novacron vm list
echo
echo "  $greeting"
echo
echo "  API      $api"
echo "  docs     http://$listen/docs"
echo "  log in   bin/novacron login --server http://$listen --username admin   (password: ${sudo[*]:+sudo }cat $password_file)"
echo "  log      $log"
echo
echo "Ctrl-C stops NovaCron and leaves guests running."
wait "$server"
stop 0
