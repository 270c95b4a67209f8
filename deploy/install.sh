#!/usr/bin/env bash
# Makes this machine a part of a farm, as deploy/README.md describes it by hand: Debian 12 or newer, Ubuntu 24.04 or newer, Raspberry Pi
# OS, on x86-64 or 64-bit ARM. May be run again: what is there is kept, the program and its units are brought up to this checkout.
set -euo pipefail

usage() {
  cat <<'END'
Usage: sudo deploy/install.sh [--dry-run] ROLE...

Roles (several on one machine as you like):
  nats         the farm's NATS server, as nats-server.conf has it
  coordinator  decides; on two machines one stands by
  compile      builds firmware
  upload       flashes the devices that this machine reaches

--dry-run prints what would be done, and does nothing.
END
}

program=/opt/flashyard
settings=/etc/flashyard
state=/var/lib/flashyard
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dry=
roles=()

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit 1
}

for word in "$@"; do
  case $word in
    --dry-run) dry=1 ;;
    -h | --help) usage && exit 0 ;;
    nats | coordinator | compile | upload) roles+=("$word") ;;
    *) usage >&2 && fail "there is no role or option $word" ;;
  esac
done
[ ${#roles[@]} -gt 0 ] || { usage >&2 && fail "name a role"; }

run() { # run COMMAND...: does it, or says it
  if [ -n "$dry" ]; then printf '  %s\n' "$*"; else "$@"; fi
}

say() { printf '%s\n' "== $1"; }

has() { # has ROLE
  local role
  for role in "${roles[@]}"; do if [ "$role" = "$1" ]; then return 0; fi; done
  return 1
}

check_machine() {
  [ -n "$dry" ] || [ "$(id -u)" -eq 0 ] || fail "it needs root: sudo deploy/install.sh ${roles[*]}"
  command -v apt-get >/dev/null || fail "this machine has no apt-get: Debian, Ubuntu and Raspberry Pi OS are meant"
  case $(dpkg --print-architecture) in
    amd64 | arm64) ;;
    *) fail "there is no Node 24 for $(dpkg --print-architecture): a Raspberry Pi needs the 64-bit system" ;;
  esac
  [ -f "$checkout/package-lock.json" ] || fail "$checkout is no checkout of flashyard"
}

need() { # need PACKAGE...: installs those that are missing
  local package missing=()
  for package in "$@"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  run apt-get update -qq
  run env DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends "${missing[@]}"
}

install_packages() {
  say "packages"
  # Any npm fetches the Node 24 that the farm runs on.
  command -v npm >/dev/null || need npm
  need ca-certificates
  if has compile; then
    need build-essential git libssl-dev python3 python3-venv
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null ||
      say "ESPHome 2026.7 and newer want Python 3.12: name one in FLASHYARD_PYTHON ($settings/agent.env)"
  fi
}

install_user() {
  say "user and folders"
  id flashyard >/dev/null 2>&1 ||
    run useradd --system --user-group --home-dir /var/cache/flashyard --no-create-home --shell /usr/sbin/nologin flashyard
  run install -d -m 755 "$settings"
  run install -d -m 755 "$state"
  if has coordinator; then run install -d -m 700 -o flashyard -g flashyard "$settings/identity"; fi
  if has nats; then run install -d -m 700 -o flashyard -g flashyard "$settings/nats"; fi
  local role
  for role in compile upload; do
    if has "$role"; then run install -d -m 700 -o flashyard -g flashyard "$state/$role-agent"; fi
  done
  [ -e "$settings/agent.env" ] ||
    run install -m 640 -o root -g flashyard "$checkout/deploy/agent.env.example" "$settings/agent.env"
}

# The new one is whole before it takes the old one's place; what runs goes on with what it has loaded.
install_program() {
  say "program"
  local folders=(actor bus cli compile-agent coordinator deploy protocol simulator toolchain upload-agent)
  run rm -rf "$program.new"
  run install -d -m 755 "$program.new"
  run cp -r "${folders[@]/#/$checkout/}" "$checkout/package.json" "$checkout/package-lock.json" "$checkout/LICENSE" "$program.new/"
  # Debian's npm 9.2 breaks off when it runs the script that fetches Node, which works by itself.
  run npm ci --prefix "$program.new" --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
  run env --chdir "$program.new/node_modules/node" node installArchSpecificPackage.js
  run ln -sf ../node/bin/node "$program.new/node_modules/.bin/node"
  if [ -z "$dry" ]; then
    local version
    version=$("$program.new/node_modules/.bin/node" --version) || fail "the Node that npm has fetched does not run here"
    case $version in v24.*) ;; *) fail "npm has fetched Node $version, and the farm needs 24" ;; esac
    chmod -R go=rX "$program.new"
  fi
  run rm -rf "$program.old"
  if [ -e "$program" ]; then run mv "$program" "$program.old"; fi
  run mv "$program.new" "$program"
  run rm -rf "$program.old"
  if [ -n "$dry" ]; then
    printf '  write /usr/local/bin/flashyard\n'
  else
    # shellcheck disable=SC2016 # The words of the command line are its own.
    printf '#!/bin/sh\nexec %s/node_modules/.bin/node %s/cli/main.ts "$@"\n' "$program" "$program" >/usr/local/bin/flashyard
    chmod 755 /usr/local/bin/flashyard
  fi
}

install_server() {
  say "nats-server"
  if [ ! -x /usr/local/bin/nats-server ]; then
    # shellcheck disable=SC2016
    run env --chdir "$program" node_modules/.bin/node --input-type=module --eval '
      import { copyFile, rm } from "node:fs/promises";
      import { resolveServerBinary } from "#bus/server-binary.ts";
      const found = await resolveServerBinary({ cacheFolder: "/var/tmp/flashyard-server", onProgress: console.error });
      await copyFile(found.path, "/usr/local/bin/nats-server");
      await rm("/var/tmp/flashyard-server", { recursive: true });'
  fi
  [ -e "$settings/nats-server.conf" ] ||
    run install -m 644 "$checkout/deploy/nats-server.conf" "$settings/nats-server.conf"
}

unit_of() { # unit_of ROLE
  case $1 in
    compile | upload) printf 'flashyard-%s-agent' "$1" ;;
    *) printf 'flashyard-%s' "$1" ;;
  esac
}

# What a role signs in with; without it a start would only fail.
credentials_of() { # credentials_of ROLE
  case $1 in
    nats) printf '%s/nats/identity.conf' "$settings" ;;
    coordinator) printf '%s/identity/keys.json' "$settings" ;;
    compile | upload) printf '%s/%s-agent/credentials.json' "$state" "$1" ;;
  esac
}

install_units() {
  say "units"
  local role unit
  for role in "${roles[@]}"; do
    unit=$(unit_of "$role")
    run install -m 644 "$checkout/deploy/systemd/$unit.service" "/etc/systemd/system/$unit.service"
  done
  # In a container, and while an image is made, nobody runs the units yet.
  if [ -d /run/systemd/system ]; then run systemctl daemon-reload; fi
  for role in "${roles[@]}"; do
    unit=$(unit_of "$role")
    if [ -n "$dry" ] || command -v systemctl >/dev/null; then run systemctl enable --quiet "$unit"; fi
    if [ ! -e "$(credentials_of "$role")" ]; then
      next_step "$role"
    elif [ -d /run/systemd/system ] && systemctl is-active --quiet "$unit"; then
      say "$unit runs with what it was started with: sudo systemctl restart $unit"
    elif [ -d /run/systemd/system ]; then
      run systemctl start "$unit"
    fi
  done
}

next_step() { # next_step ROLE: what a person has to bring
  case $1 in
    nats) say "next: \`flashyard identity init\` on your own machine, and its nats/HOST/ to $settings/nats/ (of flashyard, mode 600)" ;;
    coordinator) say "next: keys.json and coordinator.json of \`flashyard identity init\` to $settings/identity/ (of flashyard, mode 600)" ;;
    compile | upload) say "next: pair it with the farm (deploy/README.md), which writes $(credentials_of "$1")" ;;
  esac
  say "then: sudo systemctl start $(unit_of "$1")"
}

check_machine
install_packages
install_user
install_program
if has nats; then install_server; fi
install_units
