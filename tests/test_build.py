"""C linked for a microcontroller: what it finds there, and what is said where it does not fit or compile."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from dataclasses import replace

import pytest
from elftools.elf.elffile import ELFFile

from edgeq.cortexm import build, targets
from edgeq.cortexm.emit import Layer, Sources
from edgeq.cortexm.targets import Memory
from edgeq.errors import CheckFailed, InputError

TARGET = targets.find("stm32l496")
MODEL = """
#include "model.h"
static int8_t model_arena[3000];
static const int8_t model_conv_2_weights[5000] = {1};
static const int8_t model_conv_weights[20] = {1};
static __attribute__((noinline)) void model_conv_2(void)
{
  for (int i = 0; i < 3000; i++) model_arena[i] = model_conv_2_weights[(unsigned char)model_arena[i] * 19];
}
static __attribute__((noinline)) void model_conv(void) { model_arena[0] += model_conv_weights[model_arena[1] & 15]; }
int8_t *model_input(void) { return model_arena; }
const int8_t *model_run(void) { model_conv(); model_conv_2(); return model_arena; }
"""
HEADER = "#include <stdint.h>\nint8_t *model_input(void);\nconst int8_t *model_run(void);\n"
SOURCES = Sources(
    prefix="model",
    files={"model.c": MODEL, "model.h": HEADER},
    arena_bytes=3000,
    lower_bound=3000,
    constants=5020,
    layers=(
        Layer(function="model_conv", kind="CONV_2D", output="conv", constants=20, scratch=0, alive=900),
        Layer(function="model_conv_2", kind="CONV_2D", output="conv_2", constants=5000, scratch=0, alive=3000),
    ),
    input_shape=(1, 8),
    output_shape=(1, 8),
)


def with_memory(flash: int, ram: int) -> targets.Target:
    return replace(TARGET, flash=Memory(TARGET.flash.origin, flash), ram=Memory(TARGET.ram.origin, ram))


@pytest.mark.parametrize("name", targets.listed())
def test_links_for_every_target_at_its_addresses(name: str) -> None:
    target = targets.find(name)
    elf = build.link(SOURCES, target)
    at = {symbol.name: symbol for symbol in build.symbols(elf)}
    assert at["model_arena"].address == target.ram.origin and at["model_arena"].bytes == 3000
    assert target.flash.origin <= at["model_run"].address < target.flash.origin + target.flash.bytes
    assert at["stack_top"].address == target.ram.origin + target.ram.bytes
    with elf.open("rb") as handle:
        attributes = ELFFile(handle).get_section_by_name(".ARM.attributes")
        found = {
            entry.tag: entry.value
            for entry in attributes.iter_subsections().__next__().iter_subsubsections().__next__().iter_attributes()
        }
    assert found["TAG_ABI_VFP_ARGS"] == 1, "floats go in the registers of the floating point unit"


def test_sizes_are_those_of_the_sections() -> None:
    sizes = build.sizes(build.link(SOURCES, TARGET))
    assert sizes.bss == 3000 and sizes.data == 0
    assert 5020 <= sizes.rodata < 5040
    assert sizes.flash == sizes.text + sizes.rodata and sizes.ram == 3000


def test_the_limit_is_exact_and_one_page_less_says_by_how_many_bytes_and_which_layer() -> None:
    needed = 3000 + build.STACK_BYTES
    build.link(SOURCES, with_memory(1 << 20, needed))
    with pytest.raises(CheckFailed) as caught:
        build.link(SOURCES, with_memory(1 << 20, needed - 24))
    assert str(caught.value) == (
        "model does not fit stm32l496: 24 bytes of RAM too many (5,048 of 5,024; "
        "CONV_2D 'conv_2' needs most, 3,000 of the arena's 3,000)"
    )


def test_too_little_flash_names_the_layer_that_holds_most() -> None:
    flash = build.sizes(build.link(SOURCES, TARGET)).flash
    with pytest.raises(
        CheckFailed, match=r"bytes of flash too many \(5,\d{3} of 4,096; CONV_2D 'conv_2' holds most, 5,\d{3}\)"
    ):
        build.link(SOURCES, with_memory(4096, 1 << 16))
    with pytest.raises(CheckFailed, match=r"bytes of flash too many .* and .* bytes of RAM too many"):
        build.link(SOURCES, with_memory(flash // 2, 2048))


EAR = """
static int heard[500];
int ear(int x);
int ear(int x) { heard[x & 255] += x; return heard[255 & -x]; }
"""
AROUND = build.Surroundings({"ear.c": EAR}, ("ear",))


def test_what_is_around_a_network_has_to_fit_with_it() -> None:
    network, whole = (build.sizes(build.link(SOURCES, TARGET, around)) for around in (None, AROUND))
    assert whole.ram == network.ram + 2000 and network.flash < whole.flash
    small = with_memory(whole.flash - 4, 5048)
    build.link(SOURCES, small)
    with pytest.raises(CheckFailed) as caught:
        build.link(SOURCES, small, AROUND)
    told = str(caught.value)
    assert told.startswith("model with its front end does not fit stm32l496: 4 bytes of flash too many (")
    assert (
        f"; front end and decision rule take {whole.flash - network.flash:,}; CONV_2D 'conv_2' holds most, 5," in told
    )
    assert told.endswith(
        "and 2,000 bytes of RAM too many (7,048 of 5,048; front end and decision rule take 2,000; "
        "CONV_2D 'conv_2' needs most, 3,000 of the arena's 3,000)"
    )


def test_the_file_depends_on_nothing_but_the_c_and_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    first = build.link(SOURCES, TARGET)
    calls: list[object] = []
    monkeypatch.setattr(build, "run_compiler", lambda *given: calls.append(given))
    assert build.link(SOURCES, TARGET) == first and not calls
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    again = build.link(SOURCES, TARGET)
    assert again != first and again.read_bytes() == first.read_bytes()


def test_several_processes_may_ask_for_the_same_file(tmp_path) -> None:
    script = """
from edgeq.cortexm import build, targets
print(build.link_files({"a.c": "int number(void) { return 5; }"}, targets.find("nano33ble"), ("number",)))
"""
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    running = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) for _ in range(3)
    ]
    said = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0] and len(said) == 1
    assert len(list((tmp_path / "edgeq" / "built").iterdir())) == 1


def test_c_that_does_not_compile_is_told_by_the_compilers_words() -> None:
    with pytest.raises(InputError, match=r"cortex-m4 does not take the C: .*broken.c:1.*unknown type name"):
        build.link_files({"broken.c": "word run;"}, TARGET, ("run",))


def test_warnings_are_errors() -> None:
    with pytest.raises(InputError, match="unused parameter"):
        build.link_files({"a.c": "int run(int unused) { return 1; }"}, TARGET, ("run",))


@pytest.mark.parametrize("name", ["runtime", "link", "linked", "start"])
def test_a_model_may_be_called_as_the_files_it_is_linked_with(name: str) -> None:
    files = {file.replace("model", name): text.replace("model", name) for file, text in SOURCES.files.items()}
    elf = build.link(replace(SOURCES, prefix=name, files=files), TARGET)
    assert {f"{name}_run", f"{name}_arena"} <= {symbol.name for symbol in build.symbols(elf)}


def test_without_the_compiler_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"run: pip install 'edgeq\[cortexm\]'"):
        build.link(SOURCES, TARGET)


def test_the_start_up_code_links_with_its_vectors_first() -> None:
    files = {
        "start.c": (build.SUPPORT / "start.c").read_text(),
        "main.c": "int numbers[3] = {1, 2, 3};\nint main(void) { return numbers[1]; }\n",
    }
    elf = build.link_files(files, TARGET, ("edgeq_vectors", "edgeq_reset"))
    at = {symbol.name: symbol.address for symbol in build.symbols(elf)}
    with elf.open("rb") as handle:
        code = ELFFile(handle).get_section_by_name(".text").data()
    assert at["edgeq_vectors"] == TARGET.flash.origin
    assert struct.unpack_from("<2I", code) == (at["stack_top"], at["edgeq_reset"] | 1)
