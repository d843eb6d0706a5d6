"""A report says what the results say and nothing else: every number is theirs, nothing is fetched, nothing runs."""

from __future__ import annotations

import errno
import itertools
import json
import math
import re
import sys
from collections.abc import Collection, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeq
from edgeq import atomic
from edgeq.bench import report
from edgeq.bench.report import cells, chart, page
from edgeq.bench.report.entries import entries_of
from edgeq.bench.result import Band, Comparison, Figure, FrontEnd, Layer, Percentiles, Result, Value
from edgeq.errors import InputError

HERE = Path(report.__file__).parent
SCHEMA = json.loads((Path(edgeq.__file__).parent / "bench" / "schema.json").read_text())
LABELS = "rain", "dog", "a sound whose name is longer than there is room for"
SIMULATED = "instructions", "cycles", "cycles_per_mac", "ram_bytes", "layers", "real_time_factor"
UNITS = {
    "": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01, "×": 1, "g": 1,
    "mg": 1e-3, "µg": 1e-6, "ng": 1e-9,
}  # fmt: skip


def board(model: str = "small", target: str = "stm", high: float = 220.2, mean: float = 0.81, **more: Any) -> Any:
    simulated = Figure("simulated", "a core that was simulated")
    return {
        **Result(
            model, target, "c", "c-int8", "simulated", Band(191.5, high, "simulated", "a table of cycles"),
            precision="int8",
            macs=10_175_424, real_time_factor=1.03, instructions=11_257_559, cycles=13_027_611, cycles_per_mac=1.2803,
            energy_mj=Band(5.0553, 10.570, "estimated", "the maker's currents"), flash_bytes=41_114, ram_bytes=64_336,
            accuracy=scores(mean, "tflite-int8", "litert-reference"),
            layers=(Layer("conv", "CONV_2D", 1_843_200, 2_932_166, 3_463_574), Layer("pool", "MEAN", 0, 5_815, 6_649)),
            frontend=FrontEnd(Band(19.7, 22.7, "simulated", "a table of cycles"), 1_120_910, 1_429_240, 18_896, 19_188),
            machine={
                "part": "STM32L496xG", "clock_mhz": 80.0, "ram_bytes": 327_680,
                "sources": {"energy": "the maker's currents", "memory": "data sheet"},
            },
            figures=dict.fromkeys(SIMULATED, simulated)
            | dict.fromkeys(("macs", "flash_bytes"), Figure("counted", "the linked program")),
        ).to_json(), **more,
    }  # fmt: skip


def computer(model: str = "small", p50: float = 0.8123, mean: float = 0.84, stage: str = "onnx", **more: Any) -> Any:
    return {
        **Result(
            model, "cpu", "onnxruntime", stage, "measured", Percentiles(p50, 1.1 * p50, 1.4 * p50, 1.02 * p50, 1234),
            precision="int8" if stage.endswith("int8") else "float32", windows_per_second=1e3 / p50,
            macs=10_175_424, threads=1, real_time_factor=117.7, load_ms=Value(12.41), memory_bytes=Value(7_340_032),
            energy_mj=Value(9.18, "estimated", "a stated power"), co2_g=Value(1.01e-6, "estimated", "a stated grid"),
            file_bytes=417_200, accuracy=scores(mean, stage, "onnxruntime"),
            layers=(Layer("conv", "CONV_2D", 1_843_200), Layer("pool", "MEAN", 0)),
            frontend=FrontEnd(Percentiles(1.31, 1.42, 1.83, 1.33, 200)),
            comparison=Comparison("other", 1.831, 1.792, 1.884, 411, "order statistics", "measured"),
            machine={"processor": "one of a kind", "cores": 2, "load_average": 0.53, "flags": ["a", "b"]},
            warnings=("the machine was busy",),
            figures={name: Figure("counted", "the file that runs") for name in ("macs", "file_bytes", "layers")}
            | {name: Figure("measured") for name in ("real_time_factor", "windows_per_second")},
        ).to_json(), **more,
    }  # fmt: skip


def scores(mean: float, stage: str, runtime: str) -> dict[str, Any]:
    return {
        "accuracy": {"mean": mean, "low": mean - 0.06, "high": mean + 0.05, "method": "an interval", "clips": 60},
        "log_loss": 0.4567, "expected_calibration_error": 0.0312, "calibration_bins": 15, "skipped": 3,
        "confusion": [[17, 3, 0], [2, 18, 0], [0, 5, 15]], "labels": list(LABELS), "stage": stage, "runtime": runtime,
        "kind": "measured",
    }  # fmt: skip


def sweep(batches: Collection[int] = (1, 8, 64), **more: Any) -> list[Any]:
    """As many batches of one model, each window cheaper than in the batch before."""
    return [
        computer(p50=0.8 * batch**0.7, batch=batch, windows_per_second=1e3 * batch**0.3 / 0.8, comparison=None, **more)
        for batch in batches
    ]


VERIFIED = {
    "name": "small", "passed": False, "notes": ["what was not compared"], "layers": [],
    "stages": [
        {"name": "onnx", "inputs": "goldens", "runtime": "onnxruntime", "clips": 64, "top1_agreement": 1.0,
         "max_abs_error": 3.5763e-07, "sqnr_db": 133.551, "passed": True, "failures": []},
        {"name": "tflite-int8", "inputs": "data", "runtime": "litert", "clips": 60, "top1_agreement": 0.9375,
         "max_abs_error": 0.0784, "sqnr_db": 29.03, "passed": False, "failures": ["too few agree"], "accuracy": 0.8167},
    ],
}  # fmt: skip
MANY = [board(), board("large", mean=0.86, high=400.5), computer(), computer("large", 1.5123, 0.88)]


class Document(HTMLParser):
    """Elements with their attributes, and text with the elements that it is in."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input", "rect", "stop"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, list[tuple[str, dict[str, str | None]]]]] = []
        self.feed(text)
        self.close()
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID or tag == "rect":
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((data, list(self.open)))

    def within(self, tag: str = "", style: str = "") -> list[str]:
        return [text for text, above in self.texts if any(self.matches(one, tag, style) for one in above)]

    @staticmethod
    def matches(element: tuple[str, dict[str, str | None]], tag: str = "", style: str = "") -> bool:
        return (not tag or element[0] == tag) and (not style or style in (element[1].get("class") or "").split())


def html(*results: Any, verify: Any = None) -> str:
    from edgeq.bench.report import html as form

    return form.render(page.build(results, verify))


def markdown(*results: Any, verify: Any = None) -> str:
    from edgeq.bench.report import markdown as form

    return form.render(page.build(results, verify))


def leaves(value: Any, without: Collection[str] = ()) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in without:
                yield from leaves(one, without)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from leaves(one, without)
    else:
        yield value


def is_rounding(text: str, value: float) -> bool:
    """Whether a text is a value in one of the units, rounded in its last digit; a band's low end shares the high's."""
    if text == "exact":
        return value >= 200
    number, _, unit = text.partition(" ")
    digits = number.replace(",", "")
    last = 10.0 ** (int(digits.partition("e")[2] or 0) - len(digits.partition("e")[0].partition(".")[2]))
    scales = [UNITS[unit]] if unit else list(UNITS.values())
    return any(abs(float(digits) - value / scale) <= 0.5001 * last for scale in scales)


def test_the_inputs_of_these_tests_keep_to_the_schema() -> None:
    jsonschema.validate(MANY, SCHEMA)


def test_every_number_of_the_page_is_one_of_the_input_rounded() -> None:
    document = Document(html(*MANY, verify=VERIFIED))
    given = [one for one in leaves([MANY, VERIFIED]) if isinstance(one, int | float) and not isinstance(one, bool)]
    for text, above in document.texts:
        if above[-1][0] == "data":
            value = float(above[-1][1]["value"] or "nan")
            assert value in given and is_rounding(text, value), text
    shown = {float(attributes["value"] or "nan") for tag, attributes in document.elements if tag == "data"}
    unshown = {"instructions", "cycles", "mean", "runs", "batch", "threads", "layers", "confusion", "calibration_bins"}
    for result in MANY:
        for one in leaves(result, unshown):
            assert not isinstance(one, int | float) or one in shown, (one, "is a figure, and not there")
    assert {MANY[0]["instructions"], MANY[0]["cycles"], MANY[2]["latency_ms"]["runs"], 0.81, 3_463_574} <= shown

    words = ["64 goldens", "60 clips", "INT8", "p95", "p99", "99th"]
    words += sorted({str(one) for one in leaves([MANY, VERIFIED])} - set(map(str, given)), key=len, reverse=True)
    matrices = set(leaves([result["accuracy"]["confusion"] for result in MANY]))
    elsewhere = ("data", "style", "title", "sup")
    for text, above in document.texts:
        if any(Document.matches(one, tag) for one in above for tag in elsewhere):
            continue
        if any(Document.matches(one, style="tick") for one in above):
            continue
        if Document.matches(above[-1], style="count"):
            assert int(text) in matrices
            continue
        for word in words:
            text = text.replace(word, "")
        assert not re.search(r"\d", text), text


def test_what_pictures_say_in_words_are_figures_of_the_tables() -> None:
    document = Document(html(*MANY))
    known = set(document.within("data")) | set(map(str, leaves([one["accuracy"]["confusion"] for one in MANY])))
    told = [text for text in document.within("svg") if ":" in text]
    told += [attributes["aria-label"] or "" for tag, attributes in document.elements if attributes.get("role") == "img"]
    assert len(told) > 10
    for text in told:
        for word in ("INT8", "int8", *LABELS, "3 classes"):
            text = text.replace(word, "")
        for number in re.findall(r"[\d.,]*\d(?: (?:kB|MB|M|k|%))?", text):
            assert any(number == one or one.startswith(f"{number} ") for one in known), (number, text)


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    text = html(*MANY, verify=VERIFIED)
    document = Document(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in document.elements
    }
    for tag, attributes in document.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not {"src", "srcset", "data", "action"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    style = "".join(document.within("style"))
    assert "@import" not in style and "@font-face" not in style
    assert set(re.findall(r"url\(([^)]*)\)", text)) == {f"#half-{number}" for number in range(chart.SERIES)}
    assert "http:" not in text and "https:" not in text


def test_hostile_names_are_text() -> None:
    hostile = '</title></svg><script>alert("1")</script><img src=x onerror=alert(1)> & \'"'
    result = board(
        hostile, f"{hostile} on", warnings=[f"{hostile} warned"], machine={f"{hostile} key": f"{hostile} value"},
        layers=[{"name": f"{hostile} layer", "op": hostile, "macs": 1}],
    )  # fmt: skip
    result["accuracy"]["labels"] = [f"{hostile}{number}" for number in range(3)]
    result["latency_ms"]["source"] = f"{hostile} source"
    other = board(f"{hostile}2", f"{hostile} on")
    verified = {**VERIFIED, "name": hostile, "notes": [hostile]}
    document = Document(html(result, other, verify=verified))
    assert not {"script", "img"} & {tag for tag, _ in document.elements}
    everything = "\n".join(text for text, _ in document.texts)
    for end in (" on", " warned", " key", " value", " layer", " source"):
        assert hostile + end in everything
    assert not any("onerror" in (name or "") for _, attributes in document.elements for name in attributes)

    pipes = board("a|b\nc", "<b>x</b>", warnings=["# not a heading\n- nor a list"])
    lines = markdown(pipes, other, verify=verified).splitlines()
    assert "<b>" not in "\n".join(lines) and not any(line.startswith(("# not", "- nor")) for line in lines)
    for first, second in itertools.pairwise(lines):
        if first.startswith("|") and second.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", first)) == len(re.findall(r"(?<!\\)\|", second))


def test_every_figure_says_how_it_was_come_by_and_from_what() -> None:
    document = Document(html(*MANY))
    links = {attributes["href"] for tag, attributes in document.elements if tag == "a"}
    places = [attributes["id"] for tag, attributes in document.elements if tag == "li" and "id" in attributes]
    assert len(places) == len(set(places)) and links == {f"#{place}" for place in places}
    built = page.build(MANY)
    assert set(built.sources) == {
        "a core that was simulated", "a table of cycles", "the maker's currents", "the linked program",
        "a stated power", "a stated grid", "the file that runs",
    }  # fmt: skip
    for table in (built.summary, built.more):
        for cell, column in figures_of(table):
            assert cell.kind in page.KINDS or column == "Runs"
            assert bool(cell.notes) == (cell.kind not in ("measured", None)), column
    by_name = {row.head: row.cells for _, rows in built.modelled.groups for row in rows}
    kinds = [cells.plain(cell.text) for cell in by_name["Latency"]]
    assert built.modelled.columns == ("stm", "cpu") and kinds == ["simulated", "measured"]
    assert [built.sources[note - 1] for note in by_name["Energy"][0].notes] == ["the maker's currents"]


def figures_of(table: Any) -> Iterator[tuple[cells.Cell, str]]:
    for _, rows in table.groups:
        for row in rows:
            for cell, column in zip(row.cells, table.columns, strict=True):
                if cell.text:
                    yield cell, column


def test_bands_stand_beside_percentiles() -> None:
    summary = page.build(MANY).summary
    assert [title for title, _ in summary.groups] == ["small INT8", "large INT8", "small float", "large float"]
    latency = summary.columns.index("Latency, ms")
    band, percentiles = summary.groups[0][1][0].cells[latency], summary.groups[2][1][0].cells[latency]
    assert cells.plain(band.text) == "192–220" and not band.small
    assert (cells.plain(percentiles.text), cells.plain(percentiles.small)) == ("0.812", "p95 0.894 · p99 1.14")
    text = markdown(*MANY, verify=VERIFIED)
    assert "192–220 ◐[^1]" in text and "0.812 (p95 0.894 · p99 1.14) ●" in text and "[^1]: a table of cycles" in text


def test_results_of_one_target_are_told_apart_by_what_differs() -> None:
    results = [computer(), computer(runtime="litert"), computer(batch=8), computer(threads=2), board()]
    assert [entry.place for entry in entries_of(results)] == [
        "cpu · onnxruntime · threads 1 · batch 1", "cpu · litert · threads 1 · batch 1",
        "cpu · onnxruntime · threads 1 · batch 8", "cpu · onnxruntime · threads 2 · batch 1", "stm",
    ]  # fmt: skip


def test_matrices_come_once_with_float_before_int8() -> None:
    results = [board(), board(target="nano"), computer()]
    matrices = page.build(results).confusions
    assert [(one.model, one.form) for one in matrices] == [
        ("small float", "onnx in onnxruntime"), ("small INT8", "tflite-int8 in litert-reference"),
    ]  # fmt: skip
    assert matrices[0].worst[0] == (LABELS[2], "dog", 5)
    equal = computer(runtime="litert")
    equal["accuracy"] |= {"runtime": "litert", "log_loss": 0.4568}
    built = page.build([*results, equal])
    assert built.confusions[0].form == "onnx in onnxruntime, onnx in litert"
    assert built.scores is not None and len(built.scores.groups[0][1]) == 3, "they differ in log loss"


@pytest.mark.parametrize("classes", [10, 21, 50])
def test_matrices_of_many_classes_have_all_their_cells(classes: int) -> None:
    labels = [f"class {chr(97 + index % 26)} of a family with long names" for index in range(classes)]
    counts = [[(row * 7 + column * 3) % 5 * (row % 2) for column in range(classes)] for row in range(classes)]
    result = computer()
    result["accuracy"] |= {"labels": labels, "confusion": counts}
    document = Document(html(result))
    drawn = [one for one in document.elements if one[0] == "rect" and one[1].get("class") in ("right", "wrong")]
    assert len(drawn) == sum(count > 0 for row in counts for count in row)
    inside = [attributes for tag, attributes in drawn]
    assert all(0 < float(attributes["fill-opacity"] or 0) <= 0.65 for attributes in inside), "counts stay readable"
    assert sum(text in labels for text in document.within("title")) == 2 * classes, "whole, though their ends are cut"


def test_what_is_missing_is_said_and_the_rest_is_there() -> None:
    bare = {"target": "cpu", "kind": "measured", "latency_ms": {"p50": 1.25}}
    text = " ".join(text for text, _ in Document(html(bare)).texts)
    assert "1.25" in text and "Not in these results: accuracy, energy, CO₂." in text
    assert "Confusion" not in text and "Layer by layer" not in text and "Verified" not in text
    assert "Not in these results" not in html(*MANY)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sets(st.sampled_from(sorted({*board(), *computer()}))), min_size=1, max_size=4))
def test_any_field_may_be_missing(without: list[set[str]]) -> None:
    results = [{key: one[key] for key in one if key not in gone} for one, gone in zip(MANY, without, strict=False)]
    Document(html(*results))
    assert markdown(*results).startswith("# ")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=9))
def test_the_front_is_what_nothing_beats(given: list[tuple[int, int]]) -> None:
    results = [
        board(f"model {index}", high=190.0 + cost, mean=accuracy / 10) for index, (cost, accuracy) in enumerate(given)
    ]
    (latency,) = (one for one in page.build(results).charts if one.title == "latency, ms")
    best, front = 0, set()
    for cost in sorted({cost for cost, _ in given}):
        accuracy = max(accuracy for other, accuracy in given if other == cost)
        if accuracy > best:
            best = accuracy
            front.add((cost, accuracy))
    found = [point.front for point in latency.points]
    assert found == [one in front for one in given]


def test_fronts_are_of_a_place_and_macs_of_all() -> None:
    charts = {one.title: one for one in page.build([*MANY, board(target="nano"), board("large", "nano")]).charts}
    assert set(charts) == {"MACs", "latency, ms", "energy, mJ", "flash"}
    assert {point.place for point in charts["MACs"].points} == {""}
    assert {point.place for point in charts["latency, ms"].points if point.front} == {"stm", "nano", "cpu"}
    assert not page.build([board(), board(target="nano")]).charts, "one model is no choice"


def test_a_sweep_is_a_line_a_model_and_place_and_spans_are_of_the_smallest_batch() -> None:
    half = {"precision": "float16", "parity": {"top1_agreement": 0.875, "max_abs_error": 4.2e-4, "windows": 8}}
    results = [*sweep(), *sweep((8, 64), **half), *sweep(runtime="torch"), board()]
    built = page.build(results)
    ((title, (throughput, latency)),) = built.sweeps
    assert (title, throughput.title, latency.title) == ("", "windows a second", "latency of a call, ms")
    lines = dict(throughput.lines)
    assert set(lines) == {
        "small float · cpu · onnxruntime", "small float16 · cpu · onnxruntime", "small float · cpu · torch",
    }  # fmt: skip
    given = [(one["batch"], one["windows_per_second"]) for one in sweep()]
    assert [(batch, span.at) for batch, span in lines["small float · cpu · torch"]] == given
    assert [place for place, _ in built.latency] == [
        "cpu · onnxruntime · batch 1", "cpu · onnxruntime · batch 8", "cpu · torch · batch 1", "stm",
    ]  # fmt: skip
    document = Document(html(*results))
    (drawing, _) = (one for one in document.elements if "against the batch" in (one[1].get("aria-label") or ""))
    assert drawing[0] == "svg" and "1,250 at 1, 2,333 at 8" in str(drawing[1]["aria-label"])
    text = " ".join(text for text, _ in document.texts)
    assert "87.5 %" in text and "4.2e-04" in text and "Against the batch" in text
    assert "| small float | cpu · torch · batch 8 | 2,333 ●" in markdown(*results)
    (group,) = (rows for title, rows in built.summary.groups if title == "small float")
    assert [row.head for row in group] == ["cpu · onnxruntime · batch 1", "cpu · torch · batch 1"]
    alone = page.build(sweep((8,)))
    assert not alone.sweeps and alone.batches is None and "Against the batch" not in html(*MANY)


def test_more_lines_than_there_are_colours_are_told_apart_in_charts_of_a_model_each() -> None:
    models = [computer(name, batch=batch) for name in "ab" for batch in (1, 8)]
    many = [{**one, "runtime": f"runtime {number}"} for number in range(5) for one in models]
    groups = page.build(many).sweeps
    assert [title for title, _ in groups] == ["a", "b"] and len(groups[0][1][0].lines) == 5
    document = Document(html(*many))
    assert {"a", "b"} <= set(document.within("h3")) and len(chart._SHAPES) == chart.SERIES


def test_what_was_timed_stands_with_the_machine() -> None:
    (machine,) = page.build([computer(timed="there and back", cuda_graphs=True, batch=4)]).machines
    assert ("timed", ("there and back",)) in machine[1]
    (row,) = page.build([computer(timed="there and back", cuda_graphs=True, batch=4)]).summary.groups[0][1]
    assert row.small == "onnxruntime, onnx, batch 4, CUDA graphs"


def test_warnings_and_machines_are_shown() -> None:
    built = page.build(MANY)
    assert built.warnings == (("cpu", "the machine was busy"),)
    busy = page.build([computer(), computer("large", warnings=[])])
    assert busy.warnings == (("small on cpu", "the machine was busy"),)
    took = [f"other work took {part}% in 2 minutes" for part in (96, 89.5, 9)]
    (several,) = page.build([computer("ab"[index % 2], warnings=[one]) for index, one in enumerate(took)]).warnings
    assert several == ("cpu", "other work took 9 to 96% in 2 minutes")
    machines = {name: {key: cells.plain(text) for key, text in said} for name, said in built.machines}
    assert machines["stm"] == {
        "part": "STM32L496xG", "clock MHz": "80", "RAM": "328 kB", "source of memory": "data sheet",
    }  # fmt: skip
    assert machines["cpu"]["load average"] == "0.53" and machines["cpu"]["flags"] == "a, b"


def test_the_page_can_be_heard() -> None:
    document = Document(html(*MANY, verify=VERIFIED))
    for tag, attributes in document.elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or (attributes["role"], bool(attributes["aria-label"])) == (
                "img",
                True,
            )
        if tag == "th":
            assert attributes["scope"] in ("row", "col", "rowgroup")
    assert len(document.within("caption")) == sum(tag == "table" for tag, _ in document.elements)
    assert {"measured", "simulated", "estimated", "counted"} <= {
        text.strip() for text in document.within(style="unseen")
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_told_from_what_they_stand_on(scheme: str) -> None:
    """WCAG 2.1, 1.4.3 and 1.4.11: 4.5 to 1 for text, 3 to 1 for what pictures are made of."""
    light, dark = re.findall(r":root \{(.*?)\}", (HERE / "report.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--(\w+(?:-\w+)*): (#\w+)", light if scheme == "light" else dark))
    for ground in ("paper", "card"):
        for name in ("ink", "soft", "accent", "good", "bad"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["ink"], colours["warn"]) >= 4.5 and contrast(colours["soft"], colours["warn"]) >= 4.5
    assert contrast(colours["ink"], colours["fill"]) >= 4.5
    for number in range(chart.SERIES):
        assert contrast(colours[f"c{number}"], colours["card"]) >= 3, number


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_series_has_its_colour_and_its_filling() -> None:
    style = (HERE / "report.css").read_text()
    for number in range(chart.SERIES):
        assert f".s{number} {{ --c: var(--c{number}); }}" in style
        assert f".sign.simulated.s{number} {{ fill: url(#half-{number}); }}" in style


@given(st.floats(1e-12, 1e15), st.integers(0, 10**12))
def test_numbers_are_rounded_and_not_changed(real: float, whole: int) -> None:
    forms = ((cells.three, real), (cells.grams, real), (cells.count, whole), (cells.size, whole))
    for form, value in forms:
        text = form(value)
        assert is_rounding(text, value), text
        assert len(text.replace(",", "")) <= 11 or abs(value) >= 1e12, text  # such as 1.353e-12 B


@given(st.floats(1e-6, 1e9), st.floats(1, 1e6))
def test_an_axis_holds_all_that_is_on_it(low: float, ratio: float) -> None:
    steps = chart.logarithmic(low, low * ratio)
    assert steps[0] <= low and low * ratio <= steps[-1] and len(steps) >= 2
    assert all(f"{step:e}"[0] in "125" for step in steps)
    assert 0 <= chart.part(low, steps) <= chart.part(low * ratio, steps) <= 1


def test_the_suffix_is_the_form(tmp_path: Path) -> None:
    for suffix in report.SUFFIXES:
        report.write(MANY, tmp_path / f"out{suffix}", VERIFIED)
    assert json.loads((tmp_path / "out.json").read_text()) == {"results": MANY, "verify": VERIFIED}
    assert (tmp_path / "out.md").read_text() == markdown(*MANY, verify=VERIFIED)
    assert (tmp_path / "out.html").read_text() == html(*MANY, verify=VERIFIED)
    report.write(MANY[:1], tmp_path / "ONE.JSON")
    assert json.loads((tmp_path / "ONE.JSON").read_text()) == {"results": MANY[:1]}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("out.pdf", "expected a report's name to end in .html, .md, .json"),
        ("out", "expected a report's name to end in"),
        ("folder.html", "is a folder"),
        ("file/out.md", "file: is no folder; choose another place for the report"),
    ],
)
def test_what_cannot_be_written_is_one_line(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as refused:
        report.write(MANY, tmp_path / name)
    line = str(refused.value)
    assert line.startswith(str(tmp_path / name)) and told in line and "\n" not in line


def test_a_place_without_permission_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(InputError, match="no permission to write there; choose another place"):
        report.check(tmp_path / "new" / "out.md")
    report.check(tmp_path.parent / "out.md")


def test_no_results_are_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one result at least"):
        report.write([], tmp_path / "out.md")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "out.html"
    report.write(MANY[:1], path)
    before = path.read_text()
    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(InputError, match=r"out\.html: No space left on device; choose another place"):
        report.write(MANY, path)
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_only_html_takes_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    report.check(tmp_path / "out.md")
    report.write(MANY, tmp_path / "out.md")
    with pytest.raises(InputError, match=r"pip install 'edgeq\[report\]', or choose \.md"):
        report.check(tmp_path / "out.html")


def test_a_value_that_is_none_of_a_kind_is_left_out() -> None:
    assert cells.written(math.nan, cells.three) == ((), ()) and cells.written(True, cells.three) == ((), ())
