#!/bin/sh
# What to run on a machine with an NVIDIA GPU, from the repository's root:
#   benchmarks/gpu.sh                  # all steps, 25 minutes at most
#   benchmarks/gpu.sh tests bench      # some of them; each has a limit of its own, and none takes 10 minutes
# No step downloads anything or needs recordings. A step that fails or reaches its limit keeps what it has finished, and
# the others go on. Everything is kept in build/gpu; OUT names a folder for summary.txt and gpu.tar.gz, which holds the
# logs, figures and pages of all steps so far.
#
# It takes an environment (PYTHON names its Python) that has
#   pip install -e '.[dev,bench]' && pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'
# and a torch that was built with CUDA; to compile, a C compiler. The least, where little can be brought: torch, edgeq
# itself (its version is read), numpy, soundfile, soxr, click, rich, onnx, onnxruntime, ai-edge-litert, flatbuffers,
# safetensors, jinja2, jsonschema, hypothesis, pytest, pytest-cov, pytest-timeout and nvidia-ml-py. Without
# onnxruntime-gpu its runtimes are left out.
PYTHON=${PYTHON:-python}
WORK=build/gpu
OUT=${OUT:-$WORK}
mkdir -p "$WORK/results" "$OUT"
failed=0

# NAME SECONDS COMMAND...: the command's output is shown and kept.
step() {
  name=$1 limit=$2
  shift 2
  echo "== $name: $*"
  began=$(date +%s)
  { timeout "$limit" "$@" 2>&1; echo $? > "$WORK/status"; } | tee "$WORK/results/$name.log"
  status=$(cat "$WORK/status")
  case $status in
    0) told=done ;;
    124) told="stopped after $limit s: what it had finished by then is kept" ;;
    *) told="failed, status $status: $(tail -n 1 "$WORK/results/$name.log")" ;;
  esac
  [ "$status" -eq 0 ] || failed=1
  summary=$WORK/results/summary.txt
  { [ ! -f "$summary" ] || grep -v "^$name: " "$summary"; echo "$name: $told ($(($(date +%s) - began)) s)"; } \
    > "$WORK/summary" && mv "$WORK/summary" "$summary"
  tar czf "$WORK/gpu.tar.gz" -C "$WORK" results
  [ "$OUT" = "$WORK" ] || cp "$WORK/gpu.tar.gz" "$OUT"
  cp "$summary" "$OUT"
}

step_machine() {
  step gpu 60 nvidia-smi --query-gpu=name,memory.total,driver_version,power.limit --format=csv
  step versions 120 "$PYTHON" -c "import torch, onnxruntime; print(torch.__version__, torch.version.cuda, \
torch.cuda.is_available(), onnxruntime.__version__, onnxruntime.get_available_providers())"
}

# The tests that need a GPU, and those of what looks after one.
step_tests() {
  step tests 300 "$PYTHON" -m pytest -q --no-cov -ra -p no:cacheprovider tests/test_gpu_and_openvino.py \
    tests/test_fake_cuda.py tests/test_nvml.py tests/test_torch_forward.py
}

# A training step phase by phase: training_step_gpu.json, which belongs beside training_step.json.
step_train() {
  step train 540 "$PYTHON" benchmarks/training_step.py --batch 32 --steps 10 \
    -o "$WORK/results/training_step_gpu.json"
}

# One model of the zoo over batches, precisions, graphs and lowerings.
step_bench() {
  for lowering in block fast; do
    model=$WORK/esc10-qtiny-$lowering
    step "export-$lowering" 60 "$PYTHON" -m edgeq export esc10-qtiny --onnx --lowering $lowering -o "$model"
    for graphs in "" --cuda-graphs; do
      for runtime in $RUNTIMES; do
        step "bench-$lowering-$runtime$graphs" 120 "$PYTHON" -m edgeq bench "$model" --target gpu --stage onnx \
          --runtime "$runtime" --precision float32,tfloat32,float16 --batch 1,64 --seconds 2 $graphs \
          --report "$WORK/results/esc10-qtiny-$lowering-$runtime$graphs.json"
      done
    done
  done
}

# Three networks of Table III; the others, in half an hour, without --only: rows that are there are not measured again.
step_table3() {
  step table3 420 "$PYTHON" benchmarks/table3.py --target gpu --only qcnn14 qcnn14-p50 qresnet38 \
    --runtime "$(echo "$RUNTIMES" | tr ' ' ,)" \
    -o "$WORK/results/table3-gpu.json"
  step table3-page 120 "$PYTHON" benchmarks/table3.py --target gpu --report -o "$WORK/results/table3-gpu.json"
}

# onnxruntime, too, where it can use the GPU.
RUNTIMES=$("$PYTHON" -c "import onnxruntime
there = 'CUDAExecutionProvider' in onnxruntime.get_available_providers()
print('torch-cuda onnxruntime-cuda' if there else 'torch-cuda')" 2> /dev/null || echo torch-cuda)

for one in "${@:-machine tests train bench table3}"; do
  for name in $one; do
    case $name in
      machine | tests | train | bench | table3) "step_$name" ;;
      *) echo "$name: expected machine, tests, train, bench or table3" >&2; exit 2 ;;
    esac
  done
done
echo "== summary"
cat "$WORK/results/summary.txt"
echo "training_step_gpu.json, table3-gpu.json and table3-gpu.md of $WORK/results belong in benchmarks/;" \
  "then run: python benchmarks/audioset.py"
exit $failed
