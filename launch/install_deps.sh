#!/usr/bin/env bash
# Installs the distribution's packages that Weft needs (Debian 12, Ubuntu 22.04 and 24.04).
#
#   launch/install_deps.sh [build] [quickstart] [tests]     # default: build
#
# Installs nothing when all are there; needs root or sudo otherwise.
set -euo pipefail

build=(g++ cmake ninja-build pkg-config ccache
       libopenmpi-dev openmpi-bin openssh-client libhdf5-dev libyaml-cpp-dev libcli11-dev
       nlohmann-json3-dev libspdlog-dev libfmt-dev libeigen3-dev libpcre2-dev libutf8proc-dev
       libxxhash-dev)
optional=(libdnnl-dev)  # matrix products by oneDNN; by Eigen where a release has no such package
quickstart=(ca-certificates unzip python3 python3-pip)
tests=(libgtest-dev libgmock-dev libbenchmark-dev python3 python3-venv clang-format)

packages=()
for group in "${@:-build}"; do
  case $group in
    build) packages+=("${build[@]}" "${optional[@]}") ;;
    quickstart) packages+=("${quickstart[@]}") ;;
    tests) packages+=("${tests[@]}") ;;
    *) echo "install_deps.sh: no group '$group'; there are build, quickstart, tests" >&2; exit 64 ;;
  esac
done

installed() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }
missing() { for package in "${packages[@]}"; do installed "$package" || echo "$package"; done; }
is_optional() { [[ " ${optional[*]} " == *" $1 "* ]]; }

if ! command -v dpkg-query >/dev/null; then
  echo "install_deps.sh: this is no Debian or Ubuntu. Install the equivalents of: ${packages[*]}" >&2
  exit 0
fi
wanted=$(missing | sort -u)
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=()
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
  as_root=(sudo)
else
  echo "install_deps.sh: these packages are missing, and this user may not install them:" >&2
  echo "  apt-get install" $wanted >&2
  exit 69
fi

export DEBIAN_FRONTEND=noninteractive
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@"; }
apt update
install=()
for package in $wanted; do
  if is_optional "$package" && ! apt-cache show "$package" >/dev/null 2>&1; then
    echo "install_deps.sh: no package $package here; going on without it"
  else
    install+=("$package")
  fi
done
[ ${#install[@]} = 0 ] || apt install --no-install-recommends "${install[@]}"
