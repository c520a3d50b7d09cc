#!/bin/sh
# Installs what the ARM tests need on Debian or Ubuntu: a cross compiler and a user-mode emulator.
# Without them those tests are skipped, with the reason.
set -eu

if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64-static >/dev/null; then
    echo "cross compiler and emulator: present"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "no apt-get: install an AArch64 cross compiler and qemu-user by hand" >&2
    exit 1
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
