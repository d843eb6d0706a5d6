"""`edgeq export --web`: what the page consists of, where its runtime comes from, and what browsers hear with it."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import re
import shutil
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import browser
import bundles
import numpy as np
import onnx
import pytest
import soundfile
import soxr
import webdriver
from click.testing import CliRunner

from edgeq import classify, cli, goldens, runtime, tune, verify, zoo
from edgeq.decision import DecisionRule, Detector, Rule
from edgeq.errors import CheckFailed, InputError
from edgeq.export import onnx_to_web, run, web, web_runtime
from edgeq.export.frontend_onnx import features_onnx
from edgeq.live.capture import Chunk
from edgeq.live.listener import Listener

RULE = Rule(on=0.5, off=0.3, smoothing=2, patience=1, cooldown=2)


@pytest.fixture(scope="module")
def standing_in(tmp_path_factory):
    """Small files in place of onnxruntime-web's, which are 14 MB from a registry: what they hold is not looked at."""
    folder = tmp_path_factory.mktemp("runtime")
    contents = {name: f"stands for {name}".encode() for name in web_runtime.FILES}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        for name, content in contents.items():
            patch.setitem(web_runtime.FILES, name, hashlib.sha256(content).hexdigest())
        yield folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return bundles.exported(
        tmp_path_factory.mktemp("small") / "small", quaternion=True, decision=DecisionRule(events=RULE)
    )


@pytest.fixture(scope="module")
def exported(small, standing_in, tmp_path_factory):
    place = tmp_path_factory.mktemp("web") / "small"
    return run.export(small.folder, place, formats=("onnx",), web_page=True, web_runtime_folder=standing_in)


def test_the_page_is_a_stage_of_the_bundle_and_verified(exported):
    assert list(exported.bundle.exports) == ["onnx", "web"]
    report = verify.verify(exported.bundle)
    stage = next(stage for stage in report.stages if stage.name == "web")
    assert report.passed and stage.clips == goldens.COUNT and stage.max_abs_error < 1e-5
    files = {Path(file["path"]).name for file in exported.to_json()["files"] if file["format"] == "web"}
    assert files >= {"index.html", "model.json", "logmel.onnx", "LICENSE.txt", *web_runtime.FILES}
    assert "http.server" in exported.notes[-1]


def test_the_page_runs_the_very_file_that_was_exported(exported):
    assert exported.bundle.file("web/network.onnx") == exported.bundle.export("onnx")


def test_int8_takes_the_int8_file(small, standing_in, tmp_path):
    result = run.export(
        small.folder, tmp_path / "x", formats=("onnx",), int8=True, web_page=True, web_runtime_folder=standing_in
    )
    assert list(result.bundle.exports) == ["onnx", "onnx-int8", "web-int8"]
    assert result.bundle.file("web/network.onnx") == result.bundle.export("onnx-int8")


def test_the_page_fetches_nothing_from_elsewhere_and_every_file_it_names_is_there(exported):
    folder = exported.bundle.folder / "web"
    every = set()
    for path in folder.iterdir():
        if path.suffix in (".html", ".js", ".css"):
            text = path.read_text()
            assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://127.0.0.1"}, path
            named = re.findall(r'(?:from|src=|href=|import|new URL\()\s*"(?:\./)?([\w./-]+)"', text)
            assert all((folder / name).exists() for name in named), (path, named)
            every |= set(named)
    assert every >= {
        "page.js",
        "picture.js",
        "worker.js",
        "capture.js",
        "style.css",
        "onnxruntime-web/ort.wasm.min.mjs",
    }


def test_two_exports_are_byte_identical(exported, small, standing_in, tmp_path):
    again = run.export(small.folder, tmp_path / "x", formats=("onnx",), web_page=True, web_runtime_folder=standing_in)
    names = exported.bundle.exported_files("web")
    assert {name: again.bundle.files[name] for name in names} == {name: exported.bundle.files[name] for name in names}


def test_a_wrong_front_end_writes_nothing(small, standing_in, tmp_path, monkeypatch):
    other = replace(small.frontend, std=tuple(1.01 * value for value in small.frontend.std))
    monkeypatch.setattr(web, "features_onnx", lambda spec: features_onnx(other))
    with pytest.raises(CheckFailed, match=r"web .*front end's features differ"):
        run.export(small.folder, tmp_path / "x", formats=("onnx",), web_page=True, web_runtime_folder=standing_in)
    assert not (tmp_path / "x").exists()
    alone = small.folder / small.exports["onnx"]
    with pytest.raises(CheckFailed, match="front end's features differ"):
        onnx_to_web.export(alone, tmp_path / "x", standing_in)
    assert not (tmp_path / "x").exists()


def test_another_rule_changes_the_page_and_nothing_else_of_it(exported):
    rule = Rule(on=0.9, off=0.2)
    made = tune._exports(exported.bundle, DecisionRule(events=rule))["web"]()
    folder = exported.bundle.folder / "web"
    assert json.loads(made["model.json"])["rule"] == rule.to_json()
    assert {name for name, data in made.items() if data != (folder / name).read_bytes()} == {"model.json"}


def test_a_single_onnx_file_becomes_a_page(exported, standing_in, tmp_path):
    path = tmp_path / "alone.onnx"
    path.write_bytes(exported.bundle.export("onnx"))
    given = ["export", str(path), "--web", "--web-runtime", str(standing_in), "-o", str(tmp_path / "page"), "--json"]
    result = CliRunner().invoke(cli.commands, given)
    said = json.loads(result.stdout)
    assert result.exit_code == 0 and said["verify"]["passed"] and said["ops"]["Conv"] == 5
    assert {file["format"] for file in said["files"]} == {"web"}
    facts = json.loads((tmp_path / "page" / "model.json").read_text())
    assert tuple(facts["labels"]) == bundles.LABELS
    assert (tmp_path / "page" / "network.onnx").read_bytes() == path.read_bytes()


def test_a_file_that_says_no_labels_is_refused(exported, standing_in, tmp_path):
    foreign = onnx.load_model_from_string(exported.bundle.export("onnx"))
    del foreign.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(foreign.SerializeToString())
    with pytest.raises(InputError, match="no valid labels"):
        onnx_to_web.export(tmp_path / "foreign.onnx", tmp_path / "page", standing_in)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tflite", "--web"], "add --onnx"),
        (["--web-runtime", "."], "add --web"),
        (["--web", "--web-runtime", "nowhere"], "nowhere: holds no ort.wasm.min.mjs"),
    ],
)
def test_what_does_not_fit_is_told(small, options, words):
    result = CliRunner().invoke(cli.commands, ["export", str(small.folder), *options])
    assert isinstance(result.exception, InputError) and words in str(result.exception)


# Where the runtime comes from


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder: Path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def registry(standing_in, tmp_path, monkeypatch):
    """A registry that has the package, of small files, and a machine that has kept nothing of it."""
    place = tmp_path / "registry" / web_runtime.PACKAGE / "-" / f"{web_runtime.PACKAGE}-{web_runtime.VERSION}.tgz"
    place.parent.mkdir(parents=True)
    with tarfile.open(place, "w:gz") as archive:
        for name in web_runtime.FILES:
            archive.add(standing_in / name, f"package/dist/{name}")
        archive.add(__file__, "package/../../outside")
    digest = base64.b64encode(hashlib.sha512(place.read_bytes()).digest()).decode()
    monkeypatch.setattr(web_runtime, "INTEGRITY", f"sha512-{digest}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with served(tmp_path / "registry") as address:
        monkeypatch.setenv("npm_config_registry", f"{address}/")
        yield place


def test_the_runtime_is_fetched_once(registry, standing_in, monkeypatch):
    first = web_runtime.files()
    assert first == {name: (standing_in / name).read_bytes() for name in web_runtime.FILES}
    registry.unlink()
    assert web_runtime.files() == first


def test_what_was_kept_and_is_damaged_is_fetched_again(registry, tmp_path):
    first = web_runtime.files()
    kept = next((tmp_path / "cache").rglob("*.wasm"))
    kept.write_bytes(b"half")
    assert web_runtime.files() == first and kept.read_bytes() == first[kept.name]


def test_an_archive_that_is_not_the_pinned_one_is_not_unpacked(registry, tmp_path):
    registry.write_bytes(registry.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"not the archive that edgeq pins .*--web-runtime DIR"):
        web_runtime.files()
    assert not list((tmp_path / "cache").rglob("*.mjs"))


def test_without_a_network_the_mend_is_told(registry, small, tmp_path):
    registry.unlink()
    with pytest.raises(InputError, match=r"not fetched \(.*404.*--web-runtime DIR") as caught:
        run.export(small.folder, tmp_path / "x", web_page=True)
    assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()


@pytest.mark.parametrize("below", ["dist", "package/dist", f"node_modules/{web_runtime.PACKAGE}/dist"])
def test_a_folder_may_be_the_unpacked_package(standing_in, tmp_path, below):
    shutil.copytree(standing_in, tmp_path / below)
    assert set(web_runtime.files(tmp_path)) == set(web_runtime.FILES)
    (tmp_path / below / "ort.wasm.min.mjs").write_bytes(b"of another version")
    with pytest.raises(InputError, match=r"ort\.wasm\.min\.mjs: altered, or not of onnxruntime-web 1\.30\.0"):
        web_runtime.files(tmp_path)


def test_the_registry_is_npms(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    assert web_runtime.registry() == web_runtime.REGISTRY
    (tmp_path / ".npmrc").write_text("; mine\nfund=false\nregistry = https://example.org/npm/\n")
    assert web_runtime.registry() == "https://example.org/npm"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://example.net")
    assert web_runtime.registry() == "https://example.net"


# In browsers


@pytest.fixture(scope="module")
def page_of_the_zoo(tmp_path_factory):
    """A trained model's page on the real runtime, skipped where that is not to be had."""
    with pytest.MonkeyPatch.context() as patch:
        for name, digest in REAL_FILES.items():
            patch.setitem(web_runtime.FILES, name, digest)
        try:
            web_runtime.files()
        except InputError as error:
            pytest.skip(str(error))
        folder = tmp_path_factory.mktemp("zoo") / "page"
        result = run.export(zoo.find("esc10-qnano").folder, folder, formats=("onnx",), web_page=True)
    return result.bundle


REAL_FILES = dict(web_runtime.FILES)

CLASSIFY = """async (sounds) => {
  const { Engine } = await import("./engine.js");
  const engine = await Engine.open();
  const found = [];
  for (const sound of sounds) {
    const windows = [];
    const told = ({ probabilities, gated }) => probabilities && windows.push([Array.from(probabilities), gated]);
    const { scores, seconds, silent } = await engine.classify(Float32Array.from(sound), told);
    found.push({ scores: Array.from(scores), seconds, silent, windows });
  }
  return found;
}"""

DETECT = """async ({ rule, labels, windows }) => {
  const { Detector } = await import("./decision.js");
  const detector = new Detector(rule, labels);
  return windows.map(({ seconds, probabilities, gated }) => {
    const event = detector.update(seconds, Float32Array.from(probabilities), gated);
    return { event, active: detector.active, heard: detector.heard, scores: detector.scores };
  });
}"""

LISTEN = """async () => {
  const { Engine } = await import("./engine.js");
  const hear = Engine.prototype.hear;
  self.heard = [];
  Engine.prototype.hear = async function (chunk) {
    const result = await hear.call(this, chunk);
    const updates = result.updates.map((one) => ({ ...one, probabilities: Array.from(one.probabilities) }));
    self.heard.push({ samples: Array.from(chunk.samples), missing: chunk.missing, updates });
    return result;
  };
}"""


RESAMPLE = """async ({ from, to, samples }) => {
  const { Resampler } = await import("./resample.js");
  const resampler = new Resampler(from, to);
  const pieces = [];
  let length = 1;
  for (let first = 0; first < samples.length; first += length) {
    length = 1 + ((7 * first) % 997);
    pieces.push(...resampler.push(Float32Array.from(samples.slice(first, first + length))));
  }
  return pieces;
}"""

ONLY_ITS_OWN_RATE = """(rate) => {
  const Any = AudioContext;
  self.AudioContext = class extends Any {
    constructor(options) {
      if (options.sampleRate) throw new DOMException("", "NotSupportedError");
      super({ sampleRate: rate });
    }
  };
}"""

OWN_RATE = 44_100
"""Of a browser that has no other."""


def chirp(rate):
    """A sine from 50 Hz to 14 kHz in a second, which every rate from 32 kHz on holds."""
    seconds = np.arange(rate) / rate
    return (0.5 * np.sin(2 * np.pi * (50 * seconds + 6975 * seconds**2))).astype(np.float32)


def recording(spec, seeds):
    return np.concatenate([goldens.waveform(seed, spec) for seed in seeds])


@pytest.mark.slow
@pytest.mark.parametrize("engine", webdriver.ENGINES)
def test_other_browsers_hear_what_python_hears(engine, request, tmp_path):
    """A recording as a file at the model's rate, so that no browser converts it; all of its scores are in the bars."""
    if lacking := webdriver.missing(engine):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    model = request.getfixturevalue("page_of_the_zoo")
    clip = tmp_path / "clip.wav"
    sound = recording(model.frontend, [int(seed) for seed in model.goldens().seeds[:2]])
    soundfile.write(clip, sound, model.frontend.sample_rate, subtype="FLOAT")
    with served(model.folder / "web") as address, webdriver.running(engine, tmp_path) as shown:
        shown.goto(f"{address}/")
        shown.wait_for("document.querySelector('#file:enabled')")
        shown.choose("#file", clip)
        shown.wait_for("document.querySelector('#recording .best')")
        names = shown.evaluate("[...document.querySelectorAll('.class .name')].map(one => one.textContent)")
        bars = shown.evaluate("[...document.querySelectorAll('.class .bar')].map(one => one.style.transform)")
    expected = classify.recording(model, runtime.open(model, "onnx"), clip, len(model.labels))
    scores = {name: float(bar[len("scaleX(") : -1]) for name, bar in zip(names, bars, strict=True)}
    assert scores == pytest.approx({entry.label: entry.score for entry in expected.top}, abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(bool(browser.missing()), reason=f"not installed: {', '.join(browser.missing())}")
def test_chromium_hears_what_python_hears(page_of_the_zoo, tmp_path):
    """A recording as the microphone, recordings as files, and samples for the page's own function."""
    model = page_of_the_zoo
    spec = model.frontend
    seeds = [int(seed) for seed in model.goldens().seeds[:2]]
    sounds = [
        recording(spec, seeds),
        recording(spec, seeds[:1])[: spec.sample_rate // 3],
        np.zeros(3 * spec.sample_rate),
    ]
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, sounds[0], spec.sample_rate, subtype="PCM_16")
    asked: list[str] = []
    flags = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
    with (
        served(model.folder / "web") as address,
        browser.running(*flags, f"--use-file-for-fake-audio-capture={clip}") as chromium,
    ):
        page = chromium.new_page(viewport={"width": 375, "height": 800})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/")
        page.wait_for_selector("#listen:enabled")
        found = browser.answer(page, CLASSIFY, [sound.tolist() for sound in sounds])
        page.set_input_files("#file", clip)
        page.wait_for_selector("#recording .best")
        told = page.inner_text("#recording")
        detected = detectors(page)
        page.evaluate(LISTEN)
        heard = listened(page)
        assert page.inner_text("#about").startswith("A window takes")
        converted = at_its_own_rate(page)
        resampled = browser.answer(
            page, RESAMPLE, {"from": OWN_RATE, "to": spec.sample_rate, "samples": chirp(OWN_RATE).tolist()}
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        mends = refusals(page)
        assert not faults
        lacking = without_wasm(page, address)
        page.goto((model.folder / "web" / "index.html").as_uri())
        opened_as_file = page.inner_text("#notice")
    assert all(url.startswith((address, "file:")) for url in asked)

    ready = runtime.open(model, "onnx")
    for sound, answer in zip(sounds, found, strict=True):
        soundfile.write(tmp_path / "sound.wav", sound, spec.sample_rate, subtype="FLOAT")
        expected = classify.recording(model, ready, tmp_path / "sound.wav", len(model.labels))
        scores = dict(zip(model.labels, answer["scores"], strict=True))
        assert max(abs(scores[entry.label] - entry.score) for entry in expected.top) < 1e-4
        assert max(scores, key=scores.__getitem__) == expected.top[0].label
        assert (answer["seconds"], answer["silent"]) == (pytest.approx(expected.seconds), expected.silent)
    assert [answer["silent"] for answer in found] == [False, False, True]

    best = classify.recording(model, ready, clip, 1).top[0]
    assert f"{best.label} {100 * best.score:.1f}\N{NO-BREAK SPACE}%" in told
    assert detected
    assert_heard_alike(model, ready, heard)
    assert unquote(str(model.folder / "web")) in opened_as_file and "python3 -m http.server" in opened_as_file
    assert ".wasm: the server answers 404; serve the whole folder" in lacking
    assert "denied" in mends["NotAllowedError"] and "no microphone" in mends["NotFoundError"]
    assert "https or localhost" in mends["insecure"] and "does not start" in mends["never"]
    assert_resampled_alike(resampled, spec.sample_rate)
    assert f"at {OWN_RATE} Hz, converted to the model's {spec.sample_rate} Hz" in converted["source"]
    assert_heard_alike(model, ready, converted["heard"])


def assert_heard_alike(model, ready, heard):
    """The page's updates are those of Python's listener for the chunks that the microphone gave."""
    listener = Listener(model.labels, model.frontend, ready, model.decision.events or Rule())
    rate = model.frontend.sample_rate
    loudest = 0.0
    expected, found = [], []
    for chunk in heard:
        samples = np.array(chunk["samples"], np.float32)
        loudest = max(loudest, float(np.abs(samples).max()))
        expected += listener.push(Chunk(samples, rate, None, chunk["missing"]))
        found += chunk["updates"]
    assert loudest > 0.05 and len(found) == len(expected) >= 5
    for one, other in zip(found, expected, strict=True):
        assert np.abs(np.array(one["probabilities"]) - other.probabilities).max() < 1e-4
        assert np.abs(np.array(one["scores"]) - other.scores).max() < 1e-4
        assert int(np.argmax(one["probabilities"])) == int(other.probabilities.argmax())
        assert (one["seconds"], one["silent"]) == (pytest.approx(other.time), other.silent)
        assert (one["heard"], one["active"]) == (other.heard, list(other.active))
        assert (one["event"] is None) == (other.event is None)


def listened(page):
    """What came of the microphone until five windows were heard."""
    page.evaluate("self.heard = []")
    page.click("#listen")
    for _ in range(200):  # the page's policy lets playwright evaluate, not wait for an expression
        page.wait_for_timeout(50)
        if page.evaluate("self.heard.reduce((count, one) => count + one.updates.length, 0)") >= 5:
            break
    page.click("#listen")
    return browser.answer(page, "() => self.heard")


def at_its_own_rate(page):
    """What came of it in a browser that does not convert rates."""
    page.evaluate("() => { self.Kept = AudioContext; }")
    page.evaluate(ONLY_ITS_OWN_RATE, OWN_RATE)
    heard = listened(page)
    page.evaluate("() => { self.AudioContext = self.Kept; }")
    return {"heard": heard, "source": page.inner_text(".source")}


def assert_resampled_alike(found, rate):
    """Beside soxr: its passband is wider, the chirp lies in both."""
    expected = soxr.resample(chirp(OWN_RATE), OWN_RATE, rate, quality="VHQ")
    count = len(found)
    assert 0.99 * len(expected) < count <= len(expected)
    inside = slice(rate // 100, count)  # a chirp that begins at once is wider than its frequencies there
    assert np.abs(np.array(found)[inside] - expected[:count][inside]).max() < 1e-3


def detectors(page):
    """The rule for events in JavaScript beside Python's, on scores that wander."""
    draw = np.random.default_rng(7)
    labels = ["a", "b", "c", "quiet"]
    every, begun = [RULE, Rule(), *(some_rule(draw, labels) for _ in range(40))], 0
    for rule in every:
        scores = np.clip(np.cumsum(draw.normal(0, 0.25, (300, 4)), axis=0) % 2 - 0.5, 0, 1)
        scores = (np.round(4 * scores) / 4 if draw.random() < 0.5 else scores).astype(np.float32)  # labels that tie
        gated = draw.random(300) < 0.1
        windows = [
            {"seconds": 0.5 * at, "probabilities": one.tolist(), "gated": bool(quiet)}
            for at, (one, quiet) in enumerate(zip(scores, gated, strict=True))
        ]
        answers = browser.answer(page, DETECT, {"rule": rule.to_json(), "labels": labels, "windows": windows})
        detector = Detector(rule, labels)
        for window, one, quiet, answer in zip(windows, scores, gated, answers, strict=True):
            event = detector.update(window["seconds"], one, bool(quiet))
            assert (answer["active"], answer["heard"]) == (list(detector.active), detector.heard)
            assert answer["scores"] == pytest.approx(detector.scores)
            assert (answer["event"] is None) == (event is None)
            if event is not None:
                begun += 1
                assert answer["event"] == {
                    "label": event.label, "score": pytest.approx(event.score),
                    "startSeconds": event.start_seconds, "seconds": event.time_seconds,
                }  # fmt: skip
    assert begun > 5 * len(every)
    return True


def some_rule(draw, labels):
    on = int(draw.integers(1, 5)) / 4
    return Rule(
        on=on,
        off=on * int(draw.integers(0, 3)) / 2,
        smoothing=int(draw.integers(1, 5)),
        patience=int(draw.integers(1, 4)),
        cooldown=int(draw.integers(0, 6)),
        unknown=None if draw.random() < 0.5 else int(draw.integers(0, 5)) / 4,
        background=tuple(label for label in labels if draw.random() < 0.2),
    )


def without_wasm(page, address):
    """What the page says where a host has not all of its files."""
    page.route("**/*.wasm", lambda route: route.fulfill(status=404))
    page.goto(f"{address}/")
    page.wait_for_selector("#notice:visible")
    return page.inner_text("#notice")


def refusals(page):
    """What the page says where there is no microphone for it, or no sound, by the browser's fault."""
    said = {}
    fault = "(name) => navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', name); }"

    def pressed():
        page.click("#listen")
        page.wait_for_selector("#notice:visible")
        return page.inner_text("#notice")

    page.evaluate("() => { AudioContext.prototype.resume = () => new Promise(() => {}); }")
    said["never"] = pressed()
    for name in ("NotAllowedError", "NotFoundError"):
        page.evaluate(fault, name)
        said[name] = pressed()
    page.evaluate("delete navigator.mediaDevices.getUserMedia")  # the browser's own lies under it
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    said["insecure"] = pressed()
    return said
