"""Check the simulator against QEMU: the same linked file must give the same codes and instruction counts in both.

    python tools/qemu.py model.tflite [--compiler gcc]

Needs qemu-system-arm and a C compiler of this machine (gcc), for --compiler gcc also gcc-arm-none-eabi.
"""

from __future__ import annotations

import argparse
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

from edgeq.cortexm import build, emit, simulate, targets
from edgeq.cortexm.emit import Sources
from edgeq.errors import InputError
from edgeq.graph import from_tflite

BOARD = "mps2-an386"
PROGRAMS = ("qemu-system-arm", "gcc")
_PLUGIN = Path(__file__).with_name("qemu_counter.c")
_MEMORY = 4 << 20
_GCC_FLAGS = (
    "-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-std=c99", "-O2", "-ffreestanding",
    "-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra", "-Werror", "-nostdlib", "-nostartfiles",
    "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments",
)  # fmt: skip
_MAIN = """#include "{prefix}.h"

static const int8_t codes[] = {{{codes}}};

static int call_host(int operation, const void *argument)
{{
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}}

int main(void)
{{
  static const char digits[] = "0123456789abcdef";
  static const uint32_t done[2] = {{0x20026, 0}};
  int8_t *input = {prefix}_input();
  for (uint32_t i = 0; i < sizeof codes; i++) input[i] = codes[i];
  const int8_t *output = {prefix}_run();
  for (uint32_t i = 0; i < {upper}_OUTPUT_BYTES; i++) {{
    const uint8_t code = (uint8_t)output[i];
    const char text[] = {{digits[code >> 4], digits[code & 15], 0}};
    call_host(0x04, text); /* SYS_WRITE0 */
  }}
  call_host(0x20, done); /* SYS_EXIT_EXTENDED, by ADP_Stopped_ApplicationExit */
  return 0;
}}
"""


@dataclass(frozen=True)
class Seen:
    """A model's outputs as bytes, and the instructions of each of its functions."""

    outputs: bytes
    instructions: Mapping[str, int]


def missing(*more: str) -> list[str]:
    """The programs that are not installed, of those that are always needed and some more."""
    return [program for program in (*PROGRAMS, *more) if shutil.which(program) is None]


def link(sources: Sources, codes: np.ndarray, compiler: str) -> Path:
    """A program for QEMU's board that runs a model once; compiler: zig or gcc."""
    values = ", ".join(map(str, codes.ravel().tolist()))
    main = _MAIN.format(prefix=sources.prefix, upper=sources.prefix.upper(), codes=values)
    files = {**sources.files, "main.c": main, "start.c": (build.SUPPORT / "start.c").read_text()}
    roots = ("edgeq_vectors", f"{sources.prefix}_run")
    return build.link_files(files, target(), roots) if compiler == "zig" else _link_by_gcc(files, roots)


def target() -> targets.Target:
    """QEMU's board as a target, of whose cycles nothing is known."""
    flash, ram = targets.Memory(0, _MEMORY), targets.Memory(0x20000000, _MEMORY)
    return replace(targets.find("stm32l4r5"), name=BOARD, flash=flash, ram=ram)


def in_qemu(elf: Path) -> Seen:
    """Run a program, with the plugin that counts."""
    with tempfile.TemporaryDirectory(prefix="edgeq-") as name:
        plugin, counted = Path(name, "counter.so"), Path(name, "counts")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, _PLUGIN], check=True)
        command = [
            "qemu-system-arm", "-M", BOARD, "-nographic", "-monitor", "none", "-serial", "none",
            "-semihosting-config", "enable=on,target=native", "-plugin", f"{plugin},out={counted}", "-kernel", str(elf),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
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


def in_simulator(elf: Path, sources: Sources, codes: np.ndarray) -> Seen:
    """Run the model of the same file as edgeq does."""
    machine = simulate.Machine(elf, target())
    machine.write(machine.call(f"{sources.prefix}_input").value, codes.tobytes())
    call = machine.call(f"{sources.prefix}_run")
    size = int(np.prod(sources.output_shape))
    return Seen(machine.read(call.value, size), {name: count.instructions for name, count in call.by_function.items()})


def _link_by_gcc(files: Mapping[str, str], roots: tuple[str, ...]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="edgeq-"))
    inputs = {**files, "runtime.c": (build.SUPPORT / "runtime.c").read_text()}
    for name, text in inputs.items():
        (folder / name).write_text(text)
    (folder / "link.ld").write_text(build.linker_script(target(), roots))
    units = sorted(name for name in inputs if name.endswith(".c"))
    command = ["arm-none-eabi-gcc", *_GCC_FLAGS, f"-Wl,--entry={roots[-1]}", "-T", "link.ld", "-o", "linked.elf"]
    subprocess.run([*command, *units], cwd=folder, check=True)
    return folder / "linked.elf"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--compiler", choices=("zig", "gcc"), default="zig")
    given = arguments.parse_args()
    if absent := missing(*(["arm-none-eabi-gcc"] if given.compiler == "gcc" else [])):
        sys.exit(f"not installed: {', '.join(absent)}")
    sources = emit.emit(from_tflite.read(given.model), given.model.stem)
    codes = np.random.default_rng(0).integers(-128, 128, sources.input_shape[1:]).astype(np.int8)
    elf = link(sources, codes, given.compiler)
    here, there = in_simulator(elf, sources, codes), in_qemu(elf)
    for name, count in here.instructions.items():
        told = "" if there.instructions[name] == count else f", but {there.instructions[name]:,} in QEMU"
        print(f"{count:>15,}  {name}{told}")
    same = here.outputs == there.outputs and all(there.instructions[name] == n for name, n in here.instructions.items())
    print(f"{sum(here.instructions.values()):>15,}  {'equal, the outputs too' if same else 'NOT EQUAL'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
