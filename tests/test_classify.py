import json
import subprocess
import sys
from dataclasses import replace

import bundles
import numpy as np
import onnx
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import bundle, classify, goldens
from edgeq.audio.frontend import recording_features
from edgeq.decision import clip_scores
from edgeq.errors import InputError
from edgeq.graph import reference


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundles.exported(tmp_path_factory.mktemp("bundle") / "small")


def sound(seed, seconds=1.0, rate=8000):
    spec = replace(bundles.FRONTEND, window_seconds=seconds, window_hop_seconds=seconds)
    assert rate == spec.sample_rate
    return goldens.waveform(seed, spec)[: round(seconds * rate)]


def write(path, samples, rate=8000):
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def expected_scores(samples):
    """The whole recording at once through the float graph in NumPy."""
    features, gated = recording_features(samples, bundles.FRONTEND)
    graph, _, _ = bundles.graphs()
    return clip_scores(reference.run(graph, np.moveaxis(features, 1, -1)), gated)


@pytest.mark.parametrize("seconds", [0.2, 1.0, 1.7, 23.4])
def test_scores_are_those_of_the_whole_recording(model, tmp_path, seconds):
    samples = sound(11, seconds)
    (result,) = classify.classify(model, [write(tmp_path / "a.wav", samples)], top=4)
    expected = expected_scores(samples)
    assert result.seconds == pytest.approx(seconds, abs=1e-3) and result.file == str(tmp_path / "a.wav")
    assert [entry.label for entry in result.top] == [bundles.LABELS[i] for i in np.argsort(-expected)]
    assert [entry.score for entry in result.top] == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


def test_gated_windows_do_not_count(model, tmp_path):
    samples = np.concatenate([sound(5), np.zeros(8000 * 3, np.float32)])
    (result,) = classify.classify(model, [write(tmp_path / "a.wav", samples)], top=4)
    _, gated = recording_features(samples, bundles.FRONTEND)
    assert gated.any() and not gated.all()
    assert result.top[0].score == pytest.approx(expected_scores(samples).max(), abs=1e-4)


def test_all_zero_audio_still_has_an_answer(model, tmp_path):
    (result,) = classify.classify(model, [write(tmp_path / "a.wav", np.zeros(20000, np.float32))])
    assert result.top[0].score == pytest.approx(expected_scores(np.zeros(20000, np.float32)).max(), abs=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_any_rate_and_channels(model, tmp_path, channels, rate):
    seconds = np.arange(rate * 2) / rate
    tone = (0.3 * np.sin(2 * np.pi * 440 * seconds) + 0.1 * np.sin(2 * np.pi * 1310 * seconds)).astype(np.float32)
    (result,) = classify.classify(
        model, [write(tmp_path / "a.wav", np.repeat(tone[:, None], channels, axis=1), rate)], top=4
    )
    at_8000 = np.arange(16000) / 8000
    same = 0.3 * np.sin(2 * np.pi * 440 * at_8000) + 0.1 * np.sin(2 * np.pi * 1310 * at_8000)
    assert result.seconds == pytest.approx(2, abs=0.01)
    assert result.top[0].label == bundles.LABELS[int(expected_scores(same.astype(np.float32)).argmax())]


def test_runtimes_and_int8_are_as_asked(model, tmp_path):
    path = write(tmp_path / "a.wav", sound(11, 3))
    scores = {}
    for arguments in ({"runtime": "onnxruntime"}, {"runtime": "litert"}, {"runtime": "torch"}, {"int8": True}):
        (result,) = classify.classify(model, [path], **arguments)
        scores[str(arguments)] = [(entry.label, entry.score) for entry in result.top]
    exact = dict(scores["{'runtime': 'torch'}"])
    for name, found in scores.items():
        assert dict(found) == pytest.approx(exact, abs=0.1 if "int8" in name else 1e-4)
    assert dict(scores["{'int8': True}"]) != exact


def test_an_exported_file_classifies_by_itself(model, tmp_path):
    path = write(tmp_path / "a.wav", sound(11, 3))
    (whole,) = classify.classify(model, [path], runtime="onnxruntime")
    for stage in ("onnx", "tflite"):
        (alone,) = classify.classify(model.folder / model.exports[stage], [path])
        assert [entry.label for entry in alone.top] == [entry.label for entry in whole.top]
        assert alone.top[0].score == pytest.approx(whole.top[0].score, abs=1e-4)
    with pytest.raises(InputError, match="leave it out"):
        classify.classify(model.folder / model.exports["tflite"], [path], int8=True)


def test_a_model_whose_scores_are_no_numbers_is_refused(model, tmp_path):
    damaged = onnx.load(model.folder / model.exports["onnx"])
    weights = max(damaged.graph.initializer, key=lambda one: len(one.raw_data))
    weights.raw_data = b"\xff" * len(weights.raw_data)  # NaN
    onnx.save(damaged, tmp_path / "damaged.onnx")
    with pytest.raises(InputError, match=r"a\.wav: the model's scores hold NaN or infinity; export the model again"):
        classify.classify(tmp_path / "damaged.onnx", [write(tmp_path / "a.wav", sound(3))])


def test_an_exported_file_without_labels_is_refused(tmp_path):
    graph, _, _ = bundles.graphs()
    for name, content in bundles.files(replace(graph, metadata={}), graph).items():
        if name in ("onnx", "tflite"):
            path = tmp_path / f"bare.{name}"
            path.write_bytes(content)
            with pytest.raises(InputError, match=r"bare\.\w+: its metadata has no valid labels"):
                classify.classify(path, [write(tmp_path / "a.wav", sound(1))])


def test_a_bad_file_speaks_before_the_good_ones_are_decoded(model, tmp_path, monkeypatch):
    monkeypatch.setattr(classify, "recording", lambda *_: pytest.fail("decoded"))
    good = write(tmp_path / "a.wav", sound(1))
    for bad in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(InputError, match=str(bad)):
            classify.classify(model, [good, bad])


@pytest.mark.parametrize("samples", [[0.5], [0.1] * 100, [np.nan] * 9000, [np.inf] * 9000, []])
def test_recordings_that_cannot_be_judged_are_named(model, tmp_path, samples):
    path = write(tmp_path / "odd.wav", np.array(samples, np.float32))
    with pytest.raises(InputError, match=r"odd\.wav") as caught:
        classify.classify(model, [path])
    assert "\n" not in str(caught.value)


@given(content=st.binary(max_size=300), suffix=st.sampled_from([".wav", ".flac", ".ogg", ".mp3", ""]))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_for_a_file_is_one_line_or_an_answer(model, tmp_path, content, suffix):
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(content)
    try:
        classify.classify(model, [path])
    except InputError as error:
        assert "noise" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("arguments", [{"top": 0}, {"runtime": "tvm"}, {"runtime": "tflite"}])
def test_wrong_arguments_are_named(model, tmp_path, arguments):
    with pytest.raises(InputError, match=r"top 0|expected one of onnxruntime"):
        classify.classify(model, [write(tmp_path / "a.wav", sound(1))], **arguments)


def test_json_has_the_contract_s_keys(model, tmp_path):
    (result,) = classify.classify(model, [write(tmp_path / "a.wav", sound(1))], top=99)
    values = json.loads(json.dumps(result.to_json()))
    assert list(values) == ["file", "seconds", "top", "silent"] and len(values["top"]) == 4
    assert [list(entry) for entry in values["top"]] == [["label", "score"]] * 4


def test_hours_take_no_more_memory_than_seconds(model, tmp_path):
    """In a process of its own: its peak hardly grows from a minute to forty."""
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8000, 1, subtype="PCM_16") as handle:
        minute = np.tile(sound(3), 60)
        for _ in range(40):
            handle.write(minute)
    code = (
        "import sys, resource; from edgeq import classify\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"classify.classify({str(model.folder)!r}, [sys.argv[1]]); short = peak()\n"
        f"(result,) = classify.classify({str(model.folder)!r}, [sys.argv[2]])\n"
        "print(result.seconds, (peak() - short) / 1024)\n"
        "assert not {'torch', 'librosa', 'tensorflow'} & set(sys.modules)"
    )
    short = write(tmp_path / "short.wav", np.tile(sound(3), 60))
    done = subprocess.run([sys.executable, "-c", code, short, path], capture_output=True, text=True, check=True)
    seconds, more_megabytes = map(float, done.stdout.split())
    assert seconds == 2400
    assert more_megabytes < 20  # the recording itself is 77 MB as float32


def test_real_clips_go_through(model, esc10):
    paths = sorted((esc10 / "audio").rglob("*.ogg"))[:3]
    results = classify.classify(model, paths)
    assert [result.seconds for result in results] == pytest.approx([5.0] * 3, abs=0.01)


def test_a_model_that_is_not_there_is_named(tmp_path):
    for name in ("no-such-model", tmp_path / "none", "none.onnx"):
        with pytest.raises(InputError, match=r"no-such-model|none"):
            classify.classify(name, [])


def test_a_bundle_s_folder_will_do(model, tmp_path):
    path = write(tmp_path / "a.wav", sound(1))
    assert classify.classify(bundle.read(model.folder), [path]) == classify.classify(str(model.folder), [path])


def test_silence_is_said_to_be_silence(tmp_path):
    for name, level in (("silence", 0.0), ("noise", 0.1)):
        noise = level * np.random.default_rng(0).standard_normal(32000)
        soundfile.write(tmp_path / f"{name}.wav", noise, 16000)
    silence, noise = classify.classify("esc10-qnano", [tmp_path / "silence.wav", tmp_path / "noise.wav"])
    assert silence.silent and silence.to_json()["silent"] is True
    assert not noise.silent


def test_int8_in_a_runtime_without_it_is_refused_with_what_it_runs(tmp_path):
    with pytest.raises(InputError, match="torch does not run INT8"):
        classify.classify("esc10-qnano", [tmp_path / "x.wav"], runtime="torch", int8=True)
