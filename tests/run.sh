#!/usr/bin/env bash
# Installs what tests need, builds, and runs the tests.
#
#   tests/run.sh                     the quick ones (at most 25 minutes on 2 cores from nothing); where
#                                    nvcc is, also compiles for GPUs and tests that without one
#   tests/run.sh --all               also the slow ones and those that compare with PyTorch (fetches
#                                    it, or takes the Python of WEFT_PYTHON) and run SmolLM2
#                                    (fetches it, or takes the .gguf of WEFT_SMOLLM2)
#   tests/run.sh --preset asan       in another build (cpu, cuda, asan, tsan)
#   tests/run.sh --filter REGEX      only tests whose name matches
#   tests/run.sh --no-install        use what is there
set -euo pipefail
cd "$(dirname "$0")/.."

preset=cpu all=0 install=1 filter=.
while [ $# -gt 0 ]; do
  case $1 in
    --all) all=1 ;;
    --no-install) install=0 ;;
    --preset) preset=${2:?--preset needs a name}; shift ;;
    --filter) filter=${2:?--filter needs a regular expression}; shift ;;
    -h|--help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "tests/run.sh: unknown option '$1' (see --help)" >&2; exit 64 ;;
  esac
  shift
done

say() { printf '\n== %s (%d min %02d s)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }
folder=build
[ "$preset" = cpu ] || folder=build-$preset
jobs=$(nproc)

if [ $install = 1 ]; then
  say "packages"
  launch/install_deps.sh build quickstart tests
fi

say "build: preset $preset, $jobs jobs"
# The quick start leaves the tests out of the folder.
cmake --preset "$preset" -DWEFT_TESTS=ON >"/tmp/weft-configure-$$.log" 2>&1 ||
  { cat "/tmp/weft-configure-$$.log"; rm -f "/tmp/weft-configure-$$.log"; exit 1; }
rm -f "/tmp/weft-configure-$$.log"
cmake --build "$folder" -j "$jobs"

if [ $all = 1 ] && [ -z "${WEFT_PYTHON:-}" ]; then
  say "PyTorch and its friends, into $folder/venv"
  if [ ! "$folder/venv/complete" -nt tests/requirements.txt ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install -q --upgrade pip
    "$folder/venv/bin/pip" install -q -r tests/requirements.txt
    touch "$folder/venv/complete"
  fi
  export WEFT_PYTHON=$PWD/$folder/venv/bin/python
fi
if [ $all = 1 ] && [ -z "${WEFT_SMOLLM2:-}" ]; then
  say "SmolLM2, into models"
  launch/fetch_smollm2.sh
  export WEFT_SMOLLM2=$PWD/models/SmolLM2-135M-Instruct.Q4_1.gguf
fi

# mpirun as root and with more ranks than cores, as containers and small machines need it; time to
# commit a checkpoint when it is told to end.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_odls_base_sigkill_timeout=5
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0

# The GPU code compiles and links, and what comes of it works on a machine without a GPU. Of the tests' programs
# those whose code differs from the CPU's build. The objects without GPU code are in ccache by now.
compile_for_gpus() {
  local nvcc
  nvcc=$(command -v nvcc || command -v /usr/local/cuda/bin/nvcc) ||
    { say "preset cuda: skipped: no nvcc in PATH or /usr/local/cuda/bin"; return 0; }
  say "preset cuda: build with $nvcc"
  [ $install = 0 ] || launch/install_deps.sh cuda ||
    echo "tests/run.sh: no cudnn-frontend: attention by cuDNN is left out of this build"
  CUDACXX=$nvcc cmake --preset cuda -DWEFT_TESTS=ON | grep -E 'on GPUs|CUDA compiler' || return 1
  cmake --build build-cuda -j "$jobs" --target weft core_ops_test recipes_test || return 1
  say "preset cuda: tests without a GPU"
  ctest --test-dir build-cuda -R '^recipes/no_gpu_test$' --output-on-failure --no-tests=error
}

say "tests"
labels=(-LE 'slow|torch')
[ $all = 1 ] && labels=()
status=0
ctest --test-dir "$folder" "${labels[@]}" -R "$filter" -j "$jobs" --output-on-failure \
  --no-tests=error --progress || status=$?
if [ "$preset" = cpu ] && [ "$filter" = . ]; then compile_for_gpus || status=$?; fi
say "$([ $status = 0 ] && echo 'all passed' || echo 'there are failures')"
exit $status
