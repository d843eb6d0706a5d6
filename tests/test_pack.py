"""Packing gives the same shards whoever packs, goes on after a kill, and leaves out what is damaged, saying so."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, TextIO

import corpus_copies as copies
import numpy as np
import pytest
import soundfile
from small_corpus import FRONTEND, RATE, folders, sound

from edgeq import corpora, zoo
from edgeq.audio.frontend import PRESETS, FrontendSpec
from edgeq.audio.maps import logmel_spec
from edgeq.commands import data
from edgeq.corpora import pack, pack_plan, packed, packed_corpus, shards
from edgeq.corpora.clips import Clip
from edgeq.errors import InputError

SPEC = FrontendSpec(**FRONTEND)
EDGEQ = [sys.executable, "-c", "from edgeq.cli import main; main()"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("pack") / "sounds")


@pytest.fixture(scope="module")
def whole(corpus: Path) -> dict[str, bytes]:
    """The log-mel shards of the corpus, packed in one process without a break."""
    output = corpus.parent / "whole"
    result = pack.pack(corpus, output, SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=1)
    assert result["shards"] >= 5
    return content(output)


def test_shards_are_the_same_from_any_number_of_processes(corpus: Path, whole: dict[str, bytes]) -> None:
    output = corpus.parent / "two"
    pack.pack(corpus, output, SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=2)
    assert content(output) == whole


def test_an_independent_reader_finds_clips_and_labels(corpus: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    output = corpus.parent / "flac"
    result = pack.pack(corpus, output, shard_megabytes=0.05, jobs=1)
    pattern = f"{output}/shard-{{000000..{result['shards'] - 1:06d}}}.tar"
    found = {}
    for sample in webdataset.WebDataset(pattern, shardshuffle=False):
        samples, rate = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        assert rate == RATE
        found[sample["__key__"]] = samples, json.loads(sample["json"])
    assert len(found) == 24
    for clip in corpora.open(corpus).clips:
        samples, facts = found[f"{clip.label}/{clip.path.stem}"]
        expected, _ = soundfile.read(clip.path, dtype="float32")
        np.testing.assert_array_equal(samples, expected)
        assert facts["labels"] == [clip.label] and facts["file"] == clip.path.name


def test_an_independent_reader_finds_log_mel_at_every_speed(corpus: Path, whole: dict[str, bytes]) -> None:
    webdataset = pytest.importorskip("webdataset")
    files = [str(corpus.parent / "whole" / name) for name in whole if name.endswith(".tar")]
    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == list(packed.open(corpus.parent / "whole").keys)
    assert samples[0]["npy"].dtype == np.float16 and samples[0]["npy"].shape[0] == SPEC.n_mels
    assert samples[0]["speed1.25.npy"].shape[1] <= samples[0]["npy"].shape[1]


@pytest.mark.parametrize(("function", "calls"), [("_pack", 1), ("_check_anew", 3), ("bring_together", 1)])
def test_a_killed_pack_goes_on_with_what_is_missing(
    corpus: Path, tmp_path: Path, whole: dict[str, bytes], function: str, calls: int
) -> None:
    """Killed before the first shard, amid them, and before the index."""
    output = tmp_path / "killed"
    script = (
        "import os, signal, sys; from edgeq.audio.frontend import FrontendSpec; from edgeq.corpora import pack\n"
        "called = []\n"
        "def kill(*ignored):\n"
        "    called.append(1)\n"
        f"    if len(called) == {calls}: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"pack.{function} = kill\n"
        f"pack.pack(sys.argv[1], sys.argv[2], FrontendSpec(**{FRONTEND}), (1.0, 1.25), shard_megabytes=0.01, jobs=2)"
    )
    process = subprocess.run([sys.executable, "-c", script, str(corpus), str(output)])
    assert process.returncode == -signal.SIGKILL and not (output / packed.INDEX).exists()
    there = len(list(output.glob(".packing/*.json")))
    shards_of_it = sum(name.endswith(".tar") for name in whole)
    assert there >= {"_pack": 0, "_check_anew": 3, "bring_together": shards_of_it}[function]
    with pytest.raises(InputError, match="not finished; run the same edgeq data pack again"):
        packed.open(output)
    (output / ".shard-000004.tar.left").write_bytes(b"what a killed process leaves")
    result = pack.pack(corpus, output, SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=1)
    assert there <= result["kept"]  # its processes may have finished one more
    assert content(output) == whole


def test_a_shard_is_kept_only_while_its_recordings_are_as_they_were(corpus: Path, tmp_path: Path) -> None:
    again = tmp_path / "sounds"
    shutil.copytree(corpus, again)
    (again / "class0" / "clip000.wav").write_bytes(b"")
    output = tmp_path / "out"
    with pytest.raises(InputError, match=r"1 of 24 clips cannot be used .*clip000.wav: an empty file.*--max-damaged"):
        pack.pack(again, output, SPEC, shard_megabytes=0.01, jobs=1)
    soundfile.write(again / "class0" / "clip000.wav", sound(0), RATE, "PCM_16")
    result = pack.pack(again, output, SPEC, shard_megabytes=0.01, jobs=1)
    assert result["clips"] == 24 and result["kept"] == result["shards"] - 1


def test_damaged_clips_are_left_out_and_listed(corpus: Path, tmp_path: Path) -> None:
    again = tmp_path / "sounds"
    shutil.copytree(corpus, again)
    (again / "class1" / "clip001.wav").write_bytes(b"")
    (again / "class2" / "clip002.wav").write_bytes(b"RIFF, but not for long")
    soundfile.write(again / "class0" / "clip003.wav", np.zeros((0, 1), np.float32), RATE)
    soundfile.write(again / "class1" / "clip004.wav", sound(4, 0.01), RATE)  # less than an STFT window
    result = pack.pack(again, tmp_path / "out", SPEC, jobs=1, max_damaged=0.2)
    reasons = {one["file"]: one["reason"] for one in result["damaged"]}
    assert result["clips"] == 20
    assert sorted(reasons) == ["class0/clip003.wav", "class1/clip001.wav", "class1/clip004.wav", "class2/clip002.wav"]
    assert "empty file" in reasons["class1/clip001.wav"] and "STFT window" in reasons["class1/clip004.wav"]
    opened = packed.open(tmp_path / "out")
    assert len(opened) == 20 and not {"class1/clip001", "class0/clip003"} & set(opened.keys)
    assert result == {**pack.pack(again, tmp_path / "out", SPEC, jobs=1, max_damaged=0.2), "kept": 0}


def test_two_clips_of_one_name_are_refused(tmp_path: Path) -> None:
    root = folders(tmp_path / "sounds", clips=4, classes=2)
    soundfile.write(root / "class0" / "clip000.flac", sound(9), RATE)
    with pytest.raises(InputError, match=r"clip000.flac.*clip000.wav would all be class0/clip000.*rename or remove"):
        pack.pack(root, tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()


def test_what_lies_in_the_folder_already_is_not_written_over(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    pack.pack(corpus, output, SPEC, jobs=1)
    before = content(output)
    with pytest.raises(InputError, match="other recordings or options; remove it, or choose another folder with -o"):
        pack.pack(corpus, output, jobs=1)
    assert content(output) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("work of years")
    with pytest.raises(InputError, match="holds other files; choose another folder"):
        pack.pack(corpus, tmp_path / "mine", jobs=1)


def test_a_lost_shard_alone_is_made_again(corpus: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    output = tmp_path / "out"
    shutil.copytree(corpus.parent / "whole", output)
    (output / "shard-000002.tar").write_bytes(whole["shard-000002.tar"][:-1])
    with pytest.raises(InputError, match=r"shard-000002.tar: damaged: \d+ bytes.*remove that shard and run the same"):
        packed.open(output)
    result = pack.pack(corpus, output, SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=1)
    assert result["kept"] == result["shards"] - 1
    assert content(output) == whole


def test_an_index_that_cannot_be_mended_says_what_to_remove(
    corpus: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    for name, content in ((packed.INDEX, b"{"), (packed.ARRAYS, b"PK"), (packed.ARRAYS, None)):
        output = shutil.copytree(corpus.parent / "whole", tmp_path / "out")
        if content is None:
            (output / name).unlink()
        else:
            (output / name).write_bytes(content)
        mend = rf"{name}: .*; restore it, or remove {re.escape(str(output))} and run edgeq data pack again"
        with pytest.raises(InputError, match=mend):
            pack.pack(corpus, output, SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=1)
        shutil.rmtree(output)


def test_a_full_disk_is_told_with_what_is_kept(corpus: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A limit on the size of files stands in for the disk: the last shard alone is above it."""
    output = tmp_path / "out"
    shutil.copytree(corpus.parent / "whole", output)
    (output / "shard-000001.tar").unlink()

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    script = (
        "import sys; from edgeq.audio.frontend import FrontendSpec; from edgeq.corpora import pack\n"
        f"spec = FrontendSpec(**{FRONTEND})\n"
        "try: pack.pack(sys.argv[1], sys.argv[2], spec, (1.0, 1.25), shard_megabytes=0.01, jobs=1)\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(corpus), str(output)], capture_output=True, text=True, preexec_fn=limited
    )
    total = sum(name.endswith(".tar") for name in whole)
    assert "InputError" in ran.stdout and "shard-000001.tar: " in ran.stdout
    assert f"{total - 1} of {total} shards are finished and kept; free some space and run the same" in ran.stdout
    assert {path.name for path in output.iterdir()} == {".packing", *whole} - {"shard-000001.tar"}
    assert os.strerror(errno.EFBIG) in ran.stdout


def test_a_second_pack_into_one_folder_is_refused_while_the_first_lives(
    corpus: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    output = tmp_path / "out"
    script = (
        "import sys, time; from edgeq.audio.frontend import FrontendSpec; from edgeq.corpora import pack\n"
        "def wait(*ignored):\n"
        "    print('packing', flush=True)\n"
        "    time.sleep(600)\n"
        "pack._check_anew = wait\n"
        f"pack.pack(sys.argv[1], sys.argv[2], FrontendSpec(**{FRONTEND}), (1.0, 1.25), shard_megabytes=0.01, jobs=1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(corpus), str(output)], stdout=subprocess.PIPE, text=True
    ) as first:
        try:
            assert first.stdout is not None and first.stdout.readline() == "packing\n"
            before = {path.name for path in output.glob("shard-*.tar")}
            with pytest.raises(InputError, match=rf"out: process {first.pid} on .* packs into it; wait for its end"):
                pack.pack(corpus, output, SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=1)
            assert before and before <= {path.name for path in output.glob("shard-*.tar")}
        finally:
            first.kill()
    pack.pack(corpus, output, SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=1)
    assert content(output) == whole


def test_whoever_comes_while_a_folder_is_cleared_away_packs_alone(
    corpus: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other is done between the making of the folder and of the lock in it, then before the lock is taken."""
    output, make, lock = tmp_path / "out", Path.mkdir, pack._locked
    unfinished, times = output / packed.UNFINISHED, [0, 0]

    def made(path: Path, *arguments: Any, **options: Any) -> None:
        make(path, *arguments, **options)
        times[0] += path == unfinished
        if path == unfinished and times[0] == 1:
            path.rmdir()

    def locked(handle: TextIO) -> bool:
        times[1] += 1
        if times[1] == 1:  # as NFS does, under another name: there are links left
            (unfinished / "lock").rename(output / ".nfs1")
        return lock(handle)

    monkeypatch.setattr(Path, "mkdir", made)
    monkeypatch.setattr(pack, "_locked", locked)
    pack.pack(corpus, output, SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=1)
    (output / ".nfs1").unlink()
    assert times[0] >= 3 and times[1] == 2 and content(output) == whole


def test_nothing_is_left_where_files_that_are_open_cannot_go(
    corpus: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def clear(folder: Path, **options: Any) -> None:
        """As on NFS, where the folder stays while the lock is open."""
        for path in folder.iterdir():
            path.unlink()

    monkeypatch.setattr(shutil, "rmtree", clear)
    pack.pack(corpus, tmp_path / "out", SPEC, (1.0, 1.25), shard_megabytes=0.01, jobs=1)
    assert content(tmp_path / "out") == whole


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are text")
def test_names_that_are_no_text_are_packed(tmp_path: Path) -> None:
    for name in ("x\udcff", "y"):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for file in ("a.wav", "Gr\udcfc\udcdfe.wav"):
            with (tmp_path / "sounds" / name / file).open("wb") as handle:
                soundfile.write(handle, sound(len(file)), RATE, "PCM_16", format="WAV")
    (tmp_path / "sounds" / "y" / "\udcfe.wav").write_bytes(b"")
    result = pack.pack(tmp_path / "sounds", tmp_path / "out", jobs=1, max_damaged=0.2)
    assert [one["file"] for one in result["damaged"]] == ["y/\udcfe.wav"]
    opened, read = packed_corpus.open(tmp_path / "out"), corpora.open(tmp_path / "sounds")
    assert opened.labels == read.labels == ("x\udcff", "y")
    assert opened.recordings_hash == read.subset([0, 1, 2, 3]).recordings_hash
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        members = [tar.extractfile(name) for name in tar.getnames() if name.endswith(".json")]
        facts = [json.loads(member.read().decode()) for member in members if member is not None]
    assert sorted({one["file"] for one in facts}) == ["Gr\udcfc\udcdfe.wav", "a.wav"]


def test_what_is_no_file_is_left_out_and_told(tmp_path: Path) -> None:
    root = copies.audioset(tmp_path / "as")
    audio = root / "audio" / "balanced"
    (audio / "_0a-B1c2D3e.wav").unlink()
    (audio / "_0a-B1c2D3e.wav").symlink_to("gone.wav")
    (audio / "--PJHxphWEs_30000.wav").unlink()
    os.mkfifo(audio / "--PJHxphWEs_30000.wav")  # to be opened by nobody: that would wait for a writer
    result = pack.pack(root, tmp_path / "out", jobs=1, max_damaged=0.6)
    reasons = {Path(one["file"]).name: one["reason"] for one in result["damaged"]}
    assert result["clips"] == 2 and len(reasons) == 2
    assert "no such file" in reasons["_0a-B1c2D3e.wav"] and "not a regular file" in reasons["--PJHxphWEs_30000.wav"]


@pytest.mark.parametrize(
    ("subtype", "channels", "bits"), [("PCM_16", 1, 16), ("PCM_24", 1, 24), ("PCM_16", 2, 24), ("FLOAT", 1, 24)]
)
def test_flac_holds_the_samples_exactly_where_it_can(tmp_path: Path, subtype: str, channels: int, bits: int) -> None:
    path = tmp_path / "one.wav"
    soundfile.write(path, sound(1, 0.3, 44100, channels), 44100, subtype)
    written = shards.write(tmp_path / "shard.tar", [("one", Clip(path, ("a",)))], shards.Content())
    entry = written.entries[0]
    data = (tmp_path / "shard.tar").read_bytes()[entry.offsets[0] :][: entry.sizes[0]]
    (tmp_path / "out.flac").write_bytes(data)
    assert soundfile.info(tmp_path / "out.flac").subtype == f"PCM_{bits}"
    expected = soundfile.read(path, dtype="float64", always_2d=True)[0].mean(axis=1)
    error = np.abs(soundfile.read(tmp_path / "out.flac", dtype="float64")[0] - expected).max()
    assert error <= (2**-24 if subtype == "FLOAT" else 0)
    assert entry.seconds == pytest.approx(0.3)


def test_sounds_beyond_full_scale_are_cut_off_and_do_not_wrap_around(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.array([0.5, 1.0, 3.0, -1.0, -7.0], np.float32), RATE, "FLOAT")
    written = shards.write(tmp_path / "shard.tar", [("one", Clip(path, ("a",)))], shards.Content())
    entry = written.entries[0]
    (tmp_path / "out.flac").write_bytes((tmp_path / "shard.tar").read_bytes()[entry.offsets[0] :][: entry.sizes[0]])
    np.testing.assert_allclose(soundfile.read(tmp_path / "out.flac")[0], [0.5, 1, 1, -1, -1], atol=2**-23)


def test_a_shard_is_a_tar_file_without_times_and_owners(corpus: Path, whole: dict[str, bytes]) -> None:
    path = corpus.parent / "whole" / "shard-000000.tar"
    with tarfile.open(path) as tar:
        assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in tar.getmembers()} == {(0, 0, 0, "", "")}
        assert all(one.isreg() for one in tar.getmembers())
    listed = json.loads(whole["index.json"])["shards"][0]
    assert listed["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.b/x.1.wav", "a%2Eb/x%2E1"),
        ("Grüße/ä.wav", "Gr%C3%BC%C3%9Fe/%C3%A4"),
        ("__a__/b c.wav", "%5F_a__/b%20c"),
    ],
)
def test_keys_are_such_as_webdataset_reads_whole(name: str, key: str) -> None:
    tariterators = pytest.importorskip("webdataset.tariterators")
    assert pack_plan.key(Path("/data"), Path("/data") / name) == key
    assert tariterators.base_plus_ext(f"{key}.speed1.25.npy") == (key, "speed1.25.npy")


def test_the_command_tells_its_result_as_json(corpus: Path, tmp_path: Path) -> None:
    command = [*EDGEQ, "data", "pack", str(corpus), "-o", str(tmp_path / "out"), "--features", "edge-16k", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(ran.stdout)
    assert result["clips"] == 24 and result["damaged"] == [] and result["packed"] == str(tmp_path / "out")
    assert packed.open(tmp_path / "out").frontend.sample_rate == 16000
    wrong = subprocess.run([*command[:-3], "edge-61k"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "edge-61k" in wrong.stderr


def test_features_are_those_of_a_front_end_a_recipe_at_its_speeds_or_a_model(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "a"\narchitecture = "qnano"\n[fit]\nepochs = 1\nspeeds = [0.9]\n[fine_tune]\nspeeds = [1.2]\n'
    )
    edge = logmel_spec(PRESETS["edge-32k"])
    for name, speeds in (("edge-32k", (1.0,)), (str(recipe), (1.0, 0.9, 1.2)), ("qnano", (1.0,))):
        spec, found = data._frontend(name)
        assert found == speeds and logmel_spec(spec) == edge
    assert data._frontend("esc10-qnano")[0] == zoo.find("esc10-qnano").frontend
    with pytest.raises(InputError, match="or a front end: panns-32k"):
        data._frontend("nonsense")
