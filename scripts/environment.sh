# Sourced by the other scripts: finds or makes the Python environment.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# ensure_environment FOLDER EXTRAS: a virtual environment in FOLDER with this
# package, editable, and its EXTRAS; kept as it is while setup.py is unchanged.
ensure_environment() {
  local folder=$1 extras=$2
  local stamp=$folder/.installed-${extras//,/-} wanted
  wanted=$(cksum <"$root/setup.py")
  if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    return
  fi
  echo "Installing into $folder (a few minutes the first time)"
  [[ -x $folder/bin/python ]] || python3 -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --upgrade pip
  "$folder/bin/python" -m pip install --quiet --editable "$root[$extras]"
  echo "$wanted" >"$stamp"
}

# The TensorFlow build for this machine.
tensorflow_extra() {
  if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    echo gpu
  else
    echo cpu
  fi
}

# run_python ARGS...: Python with this package, from $PYTHON, the project's
# environment, or the path, in this order.
run_python() {
  local python=${PYTHON:-}
  if [[ -z $python ]]; then
    python=$root/.venv/bin/python
    [[ -x $python ]] || python=python3
  fi
  PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} \
    TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2} "$python" "$@"
}
