#!/usr/bin/env bash
# Installs the distribution's packages that Weft needs (Debian 12, Ubuntu 22.04 and 24.04).
#
#   launch/install_deps.sh [build] [quickstart] [tests] [cuda]     # default: build
#
# Installs nothing when all are there; needs root or sudo otherwise. The group cuda fetches the
# headers of NVIDIA's cudnn-frontend from PyPI into .deps/, where CMake looks for them; the CUDA
# toolkit, cuDNN and NCCL are NVIDIA's own packages, which README.md names.
set -euo pipefail

build=(g++ cmake ninja-build pkg-config ccache
       libopenmpi-dev openmpi-bin openssh-client libhdf5-dev libyaml-cpp-dev libcli11-dev
       nlohmann-json3-dev libspdlog-dev libfmt-dev libeigen3-dev libpcre2-dev libutf8proc-dev
       libxxhash-dev)
optional=(libdnnl-dev)  # matrix products by oneDNN; by Eigen where a release has no such package
quickstart=(ca-certificates unzip python3 python3-pip)
tests=(libgtest-dev libgmock-dev libbenchmark-dev python3 python3-venv clang-format)
cuda=(ca-certificates unzip python3 python3-pip)
cudnn_frontend=1.32.0

# A header-only library; its wheel also holds Python modules, which stay away.
fetch_cudnn_frontend() {
  local folder
  folder=$(cd "$(dirname "$0")/.." && pwd)/.deps/cudnn-frontend
  if [ -e "$folder/include/cudnn_frontend.h" ]; then return; fi
  rm -rf "$folder.part" && mkdir -p "$folder.part"
  python3 -m pip download -q --no-deps --only-binary :all: -d "$folder.part" \
    "nvidia-cudnn-frontend==$cudnn_frontend"
  unzip -q "$folder.part"/*.whl 'include/*' -d "$folder.part"
  rm "$folder.part"/*.whl
  rm -rf "$folder" && mv "$folder.part" "$folder"
  echo "install_deps.sh: cudnn-frontend $cudnn_frontend is in $folder"
}

packages=()
for group in "${@:-build}"; do
  case $group in
    build) packages+=("${build[@]}" "${optional[@]}") ;;
    quickstart) packages+=("${quickstart[@]}") ;;
    tests) packages+=("${tests[@]}") ;;
    cuda) packages+=("${cuda[@]}") ;;
    *) echo "install_deps.sh: no group '$group'; there are build, quickstart, tests, cuda" >&2; exit 64 ;;
  esac
done

installed() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }
missing() { for package in "${packages[@]}"; do installed "$package" || echo "$package"; done; }
is_optional() { [[ " ${optional[*]} " == *" $1 "* ]]; }

install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    echo "install_deps.sh: this is no Debian or Ubuntu. Install the equivalents of: ${packages[*]}" >&2
    return
  fi
  local wanted as_root install=() package
  wanted=$(missing | sort -u)
  [ -n "$wanted" ] || return 0

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
  for package in $wanted; do
    if is_optional "$package" && ! apt-cache show "$package" >/dev/null 2>&1; then
      echo "install_deps.sh: no package $package here; going on without it"
    else
      install+=("$package")
    fi
  done
  [ ${#install[@]} = 0 ] || apt install --no-install-recommends "${install[@]}"
}

install_packages
for group in "$@"; do
  if [ "$group" = cuda ]; then fetch_cudnn_frontend; fi
done
