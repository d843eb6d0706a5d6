"""Check the simulator against QEMU: the same linked file must give the same codes and instruction counts in both.

    python tools/qemu.py model.tflite [--core cortex-m7] [--compiler gcc]
    python tools/qemu.py esc10-qtiny                    from sound to answer: a model of the zoo, or a bundle's folder

Needs qemu-system-arm and a C compiler of this machine (gcc), for --compiler gcc also gcc-arm-none-eabi.
"""

from __future__ import annotations

import argparse
import atexit
import bisect
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeq import zoo
from edgeq.audio.frontend import FrontendSpec
from edgeq.cortexm import build, emit, frontend, simulate, targets
from edgeq.cortexm.emit import Sources
from edgeq.cortexm.frontend import FrontendSources
from edgeq.cortexm.targets import Memory
from edgeq.errors import InputError
from edgeq.graph import from_tflite

PROGRAMS = ("qemu-system-arm", "gcc")
_PLUGIN = Path(__file__).with_name("qemu_counter.c")
_MEMORY = 4 << 20
_LOUDNESS = 4000
_GCC_FLAGS = (
    "-mthumb", "-mfloat-abi=hard", "-std=c99", "-O2", "-ffreestanding", "-ffunction-sections", "-fdata-sections",
    "-Wall", "-Wextra", "-Werror", "-nostdlib", "-nostartfiles", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments",
)  # fmt: skip
_MAIN = """#include <stdint.h>

extern const uint32_t job_bytes;
const int8_t *job(void);

static int call_host(int operation, const void *argument)
{
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

int main(void)
{
  static const char digits[] = "0123456789abcdef";
  static const uint32_t done[2] = {0x20026, 0};
  const int8_t *output = job();
  for (uint32_t i = 0; i < job_bytes; i++) {
    const uint8_t code = (uint8_t)output[i];
    const char text[] = {digits[code >> 4], digits[code & 15], 0};
    call_host(0x04, text); /* SYS_WRITE0 */
  }
  call_host(0x20, done); /* SYS_EXIT_EXTENDED, by ADP_Stopped_ApplicationExit */
  return 0;
}
"""


@dataclass(frozen=True)
class Board:
    """One of QEMU's, with 4 MB or more from each address, and what GCC has to know of its core."""

    name: str
    flash: int
    ram: int
    gcc: tuple[str, ...]


BOARDS = {
    "cortex-m4": Board("mps2-an386", 0, 0x20000000, ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16")),
    "cortex-m7": Board("mps2-an500", 0, 0x20000000, ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16")),
    # Memory as the secure side sees it, where the core begins.
    "cortex-m33": Board("mps2-an505", 0x10000000, 0x38000000, ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16")),
}


@dataclass(frozen=True)
class Job:
    """C with a function `job` that returns an address, at which output_bytes are to be compared."""

    files: Mapping[str, str]
    output_bytes: int


@dataclass(frozen=True)
class Seen:
    """A job's outputs as bytes, and the instructions of each of its functions."""

    outputs: bytes
    instructions: Mapping[str, int]


def missing(*more: str) -> list[str]:
    """The programs that are not installed, of those that are always needed and some more."""
    return [program for program in (*PROGRAMS, *more) if shutil.which(program) is None]


def network(sources: Sources, codes: np.ndarray) -> Job:
    """Run a network once on input codes."""
    body = f"""#include "{sources.prefix}.h"
{_table("int8_t", "codes", codes)}
const int8_t *job(void);
const int8_t *job(void)
{{
  int8_t *input = {sources.prefix}_input();
  for (uint32_t i = 0; i < sizeof codes; i++) input[i] = codes[i];
  return {sources.prefix}_run();
}}
"""
    return _job(sources.files, body, int(np.prod(sources.output_shape)))


def sound(before: FrontendSources, spec: FrontendSpec, sources: Sources | None = None) -> Job:
    """Take in one window of noise, and give its codes, or the network's answer to them."""
    pcm = np.random.default_rng(0).normal(0, _LOUDNESS, 2 * spec.window_samples).astype(np.int16)
    prefix, codes = before.prefix, int(np.prod(spec.input_shape))
    include = f'#include "{prefix}.h"' if sources else f"static int8_t codes[{codes}];"
    target, answer = (f"{prefix}_input()", f"{prefix}_run()") if sources else ("codes", "codes")
    body = f"""#include "{prefix}_frontend.h"
{include}
{_table("int16_t", "pcm", pcm)}
const int8_t *job(void);
const int8_t *job(void)
{{
  {prefix}_frontend_start();
  {prefix}_frontend_push(pcm, sizeof pcm / sizeof *pcm);
  {prefix}_frontend_window({target});
  return {answer};
}}
"""
    files = {**before.files, **(sources.files if sources else {})}
    return _job(files, body, int(np.prod(sources.output_shape)) if sources else codes)


def _table(ctype: str, name: str, values: np.ndarray) -> str:
    return f"static const {ctype} {name}[] = {{{', '.join(map(str, values.ravel().tolist()))}}};"


def _job(files: Mapping[str, str], body: str, output_bytes: int) -> Job:
    told = f"extern const uint32_t job_bytes;\nconst uint32_t job_bytes = {output_bytes};\n"
    return Job({**files, "edgeq_job.c": body + told}, output_bytes)


def link(job: Job, core: str, compiler: str) -> Path:
    """A program for QEMU's board with that core; compiler: zig or gcc."""
    files = {**job.files, "edgeq_main.c": _MAIN, "edgeq_start.c": (build.SUPPORT / "start.c").read_text()}
    roots = ("edgeq_vectors", "job")
    return build.link_files(files, target(core), roots) if compiler == "zig" else _link_by_gcc(files, core, roots)


def target(core: str) -> targets.Target:
    """QEMU's board as a target, of whose cycles nothing is known."""
    board = BOARDS[core]
    flash, ram = Memory(board.flash, _MEMORY), Memory(board.ram, _MEMORY)
    return replace(targets.find("stm32l4r5"), name=board.name, core=core, flash=flash, ram=ram)


def in_qemu(elf: Path, core: str) -> Seen:
    """Run a program, with the plugin that counts."""
    with tempfile.TemporaryDirectory(prefix="edgeq-") as name:
        plugin, counted = Path(name, "counter.so"), Path(name, "counts")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, _PLUGIN], check=True)
        command = [
            "qemu-system-arm", "-M", BOARDS[core].name, "-nographic", "-monitor", "none", "-serial", "none",
            "-semihosting-config", "enable=on,target=native", "-plugin", f"{plugin},out={counted}", "-kernel", str(elf),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
        if done.returncode or not counted.exists():
            raise InputError(f"QEMU: ends with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        lines = [line.split() for line in counted.read_text().splitlines()]
    functions = [symbol for symbol in build.symbols(elf) if symbol.function]
    addresses = [symbol.address for symbol in functions]
    instructions: Counter[str] = Counter()
    for address, count in lines:
        instructions[functions[bisect.bisect_right(addresses, int(address)) - 1].name] += int(count)
    # QEMU writes what the program says through semihosting to stderr.
    return Seen(bytes.fromhex((done.stdout + done.stderr).strip()), instructions)


def in_simulator(elf: Path, core: str, job: Job) -> Seen:
    """Run the job of the same file as edgeq does."""
    machine = simulate.Machine(elf, target(core))
    call = machine.call("job")
    outputs = machine.read(call.value, job.output_bytes)
    return Seen(outputs, {name: count.instructions for name, count in call.by_function.items()})


def _link_by_gcc(files: Mapping[str, str], core: str, roots: tuple[str, ...]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="edgeq-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # the program in it is run until then
    inputs = {**files, "edgeq_runtime.c": (build.SUPPORT / "runtime.c").read_text()}
    for name, text in inputs.items():
        (folder / name).write_text(text)
    (folder / "link.ld").write_text(build.linker_script(target(core), roots))
    units = sorted(name for name in inputs if name.endswith(".c"))
    flags = [*BOARDS[core].gcc, *_GCC_FLAGS, f"-Wl,--entry={roots[-1]}", "-T", "link.ld", "-o", "linked.elf"]
    subprocess.run(["arm-none-eabi-gcc", *flags, *units], cwd=folder, check=True)
    return folder / "linked.elf"


def of_model(model: str) -> Job:
    """Of a .tflite file the network, of a model of the zoo or a bundle all from sound to answer."""
    if model.endswith(".tflite"):
        sources = emit.emit(from_tflite.read(Path(model)), Path(model).stem)
        codes = np.random.default_rng(0).integers(-128, 128, sources.input_shape[1:]).astype(np.int8)
        return network(sources, codes)
    bundle = zoo.find(model)
    graph = from_tflite.read(bundle.checked(bundle.exports["tflite-int8"]))
    quantization = graph.tensors[graph.input].quantization
    assert quantization is not None
    before = frontend.emit(bundle.frontend, quantization, bundle.name)
    return sound(before, bundle.frontend, emit.emit(graph, bundle.name))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model")
    arguments.add_argument("--core", choices=BOARDS, default="cortex-m4")
    arguments.add_argument("--compiler", choices=("zig", "gcc"), default="zig")
    given = arguments.parse_args()
    if absent := missing(*(["arm-none-eabi-gcc"] if given.compiler == "gcc" else [])):
        sys.exit(f"not installed: {', '.join(absent)}")
    job = of_model(given.model)
    elf = link(job, given.core, given.compiler)
    here, there = in_simulator(elf, given.core, job), in_qemu(elf, given.core)
    for name, count in here.instructions.items():
        told = "" if there.instructions[name] == count else f", but {there.instructions[name]:,} in QEMU"
        print(f"{count:>15,}  {name}{told}")
    same = here.outputs == there.outputs and all(there.instructions[name] == n for name, n in here.instructions.items())
    print(f"{sum(here.instructions.values()):>15,}  {'equal, the outputs too' if same else 'NOT EQUAL'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
