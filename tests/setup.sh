#!/bin/sh
# Checks that this machine has what the tests and the demo call. What is missing is installed as root by apt, where
# there is apt, and named otherwise.
set -eu

# The commands, each with the Debian package that has it.
commands="cc:gcc ip:iproute2 nft:nftables conntrack:conntrack setpriv:util-linux curl:curl"

# /usr/sbin is not on every user's path.
PATH="$PATH:/usr/sbin:/sbin"

missing() {
    for pair in $commands; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done | sort -u
}

packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing $packages" >&2
    export DEBIAN_FRONTEND=noninteractive
    # A machine's lists may be older than the packages that its mirror still has.
    # shellcheck disable=SC2086
    apt-get install --yes --no-install-recommends $packages >&2 || {
        apt-get update >&2
        apt-get install --yes --no-install-recommends $packages >&2
    }
    packages=$(missing | tr '\n' ' ')
fi

failed=0
if [ -n "$packages" ]; then
    echo "setup: please install: $packages" >&2
    failed=1
fi
command -v go >/dev/null || [ -n "${KUBEBUILDER_ASSETS:-}" ] || {
    echo "setup: please install Go (https://go.dev/dl), which builds the lab's control plane, or point" \
        "KUBEBUILDER_ASSETS to a folder that has one" >&2
    failed=1
}
for tool in fmt clippy; do
    cargo "$tool" --version >/dev/null 2>&1 || {
        echo "setup: please install cargo $tool: rustup component add rustfmt clippy" >&2
        failed=1
    }
done
if [ "$(id -u)" != 0 ]; then
    echo "setup: the lab makes network namespaces: please run this as root" >&2
    failed=1
fi
exit "$failed"
