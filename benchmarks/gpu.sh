#!/bin/sh
# What to run on the first machine with an NVIDIA GPU, from the repository's root, in an environment that has
#   pip install -e '.[dev,bench]' && pip uninstall -y onnxruntime && pip install onnxruntime-gpu nvidia-ml-py
# and a torch that was built with CUDA. PYTHON names its Python. Each step says what it lacks, and the others go on:
# the tests of GPUs, a training step profiled for the plan for AudioSet, one model of the zoo swept over batches,
# precisions, graphs and lowerings, and Table III (the longest: it keeps what is finished, so that it may be stopped and
# run again).
PYTHON=${PYTHON:-python}
OUT=${OUT:-build/gpu}
mkdir -p "$OUT"

nvidia-smi --query-gpu=name,memory.total,driver_version,power.limit --format=csv | tee "$OUT/gpu.csv"
$PYTHON -c "import torch, onnxruntime; print(torch.__version__, torch.version.cuda, onnxruntime.__version__, onnxruntime.get_available_providers())"

$PYTHON -m pytest -q --no-cov -ra tests/test_gpu_and_openvino.py tests/test_nvml.py tests/test_torch_forward.py

$PYTHON benchmarks/training_step.py --batch 32 --steps 30 -o benchmarks/training_step_gpu.json && $PYTHON benchmarks/audioset.py

for lowering in block fast; do
  $PYTHON -m edgeq export esc10-qtiny --onnx --lowering $lowering -o "$OUT/esc10-qtiny-$lowering"
  for graphs in "" --cuda-graphs; do
    $PYTHON -m edgeq bench "$OUT/esc10-qtiny-$lowering" --target gpu --stage onnx \
      --runtime onnxruntime-cuda,torch-cuda --precision float32,tfloat32,float16 --batch 1,8,64,256 --seconds 3 $graphs \
      --report "$OUT/esc10-qtiny-$lowering$graphs.html" --json > "$OUT/esc10-qtiny-$lowering$graphs.json"
  done
done

$PYTHON benchmarks/table3.py --target gpu
