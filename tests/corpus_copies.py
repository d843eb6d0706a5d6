"""Small copies of published corpora, in their true layouts: noise where there was sound."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000


def noise(path: Path, seconds: float = 0.1, seed: int = 0, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), channels))
    soundfile.write(path, samples.astype(np.float32), rate, "PCM_16")
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


CLASSES = (
    ("/m/09x0r", "Speech"),
    ("/m/05zppz", "Male speech, man speaking"),
    ("/m/0bt9lr", "Dog"),
    ("/m/06mb1", "Rain"),
)

SEGMENTS = {
    "balanced_train_segments.csv": (
        '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/m/05zppz"',
        '_0a-B1c2D3e, 0.000, 10.000, "/m/0bt9lr"',
    ),
    "unbalanced_train_segments.csv": (
        'zzzzzzzzzzz, 20.000, 30.000, "/m/06mb1,/m/0bt9lr"',
        'gone_gone_g, 5.000, 9.500, "/m/06mb1"',
    ),
    "eval_segments.csv": ('Yyyyyyyyyyy, 1.500, 11.500, "/m/06mb1"',),
}


def audioset(root: Path) -> Path:
    """Four recordings of five segments, each named in another of the ways."""
    text(root / "class_labels_indices.csv", "index,mid,display_name\n" + "".join(
        f'{i},{mid},"{name}"\n' for i, (mid, name) in enumerate(CLASSES)
    ))  # fmt: skip
    for name, lines in SEGMENTS.items():
        head = "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=2, num_segs=2\n"
        text(root / name, head + "# YTID, start_seconds, end_seconds, positive_labels\n" + "\n".join(lines) + "\n")
    files = "balanced/--PJHxphWEs_30000.wav", "balanced/_0a-B1c2D3e.wav", "eval/YYyyyyyyyyyy.flac"
    for seed, file in enumerate((*files, "unbalanced/part00/zzzzzzzzzzz_20000_30000.wav")):
        noise(root / "audio" / file, seed=seed)
    return root


def ontology(root: Path) -> Path:
    """AudioSet's ontology, with a class that no segment has, instead of the table of classes."""
    (root / "class_labels_indices.csv").unlink(missing_ok=True)
    entities = [{"id": mid, "name": name, "restrictions": []} for mid, name in CLASSES]
    human = {"id": "/m/0dgw9r", "name": "Human sounds", "restrictions": ["abstract"]}
    return text(root / "ontology.json", json.dumps([human, *entities]))


GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def gtzan(root: Path, parent: str = "genres") -> Path:
    """All thousand tracks, of which jazz.00054 is no recording, as published."""
    sound = noise(root / "sound.wav").read_bytes()
    (root / "sound.wav").unlink()
    for genre in GENRES:
        (root / parent / genre).mkdir(parents=True)
        for number in range(100):
            (root / parent / genre / f"{genre}.{number:05}.wav").write_bytes(sound)
    (root / parent / "jazz" / "jazz.00054.wav").write_bytes(b"no header" * 9)
    return root


def esc50(root: Path, clips: int = 12) -> Path:
    """Clips of three classes over five folds; dog and rain are of ESC-10."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for i in range(clips):
        fold, (target, label, esc10) = (
            i % 5 + 1,
            ((0, "dog", True), (10, "rain", True), (14, "chirping_birds", False))[i % 3],
        )
        lines.append(
            f"{fold}-{1000 + i // 2}-{'AB'[i % 2]}-{target}.wav,{fold},{target},{label},{esc10},{1000 + i // 2},A"
        )
        noise(root / "audio" / lines[-1].split(",")[0], 5.0, i, 2000)
    text(root / "meta" / "esc50.csv", "\n".join(lines) + "\n")
    return root


def ravdess(root: Path) -> Path:
    """All 1440 recordings of speech, and one of song."""
    for actor in range(1, 25):
        (root / f"Actor_{actor:02}").mkdir(parents=True)
        for emotion in range(1, 9):
            for rest in (
                "01-01-01",
                "01-01-02",
                "01-02-01",
                "01-02-02",
                "02-01-01",
                "02-01-02",
                "02-02-01",
                "02-02-02",
            ):
                if emotion > 1 or rest.startswith("01"):
                    (root / f"Actor_{actor:02}" / f"03-01-{emotion:02}-{rest}-{actor:02}.wav").touch()
    (root / "Actor_01" / "03-02-04-01-01-01-01.wav").touch()
    return root


def tau2022(root: Path) -> Path:
    """Two scenes of two cities by two devices; one clip is in neither part of the setup."""
    files = [
        f"audio/{scene}-{city}-{place}-{part}-{device}.wav\t{scene}\t{city}-{place.partition('-')[0]}\t{device}"
        for scene in ("airport", "bus")
        for city, place in (("lisbon", "1000-40000"), ("paris", "7-12"))
        for part in (0, 1)
        for device in ("a", "s1")
    ]
    text(root / "meta.csv", "filename\tscene_label\tidentifier\tsource_label\n" + "\n".join(files) + "\n")
    for seed, line in enumerate(files):
        noise(root / line.split("\t")[0], 1.0, seed)
    parts = {
        "train": [one for one in files if "lisbon" in one],
        "evaluate": [one for one in files if "paris" in one][1:],
    }
    for part, lines in parts.items():
        rows = ["\t".join(line.split("\t")[:2]) for line in lines]
        text(root / "evaluation_setup" / f"fold1_{part}.csv", "filename\tscene_label\n" + "\n".join(rows) + "\n")
    return root


def urbansound8k(root: Path) -> Path:
    """Four excerpts of three recordings, in two folds."""
    text(
        root / "metadata" / "UrbanSound8K.csv",
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
        "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing\n"
        "100263-2-0-121.wav,100263,60.5,64.5,1,5,2,children_playing\n99-3-0-0.wav,99,0.0,1.0,2,10,3,dog_bark\n",
    )
    text(root / "FREESOUNDCREDITS.txt", "[soundid] by [username]\n\n100032 by nfrae\n100263 by sage by the sea\n")
    for seed, file in enumerate(
        ("fold5/100032-3-0-0", "fold5/100263-2-0-117", "fold5/100263-2-0-121", "fold10/99-3-0-0")
    ):
        noise(root / "audio" / f"{file}.wav", 0.3, seed, channels=1 + seed % 2)
    return root


def speech_commands(root: Path) -> Path:
    """Two words by three speakers, and noise."""
    for seed, (word, speaker) in enumerate((w, s) for w in ("yes", "no") for s in ("0a7c2a8d", "1b4c9b89", "bb05582b")):
        noise(root / word / f"{speaker}_nohash_0.wav", 0.9, seed)
    noise(root / "_background_noise_" / "white_noise.wav", 2.0)
    text(root / "validation_list.txt", "yes/1b4c9b89_nohash_0.wav\nno/1b4c9b89_nohash_0.wav\n")
    text(root / "testing_list.txt", "yes/bb05582b_nohash_0.wav\nno/bb05582b_nohash_0.wav\n")
    return root


def fsdd(root: Path) -> Path:
    """Three speakers who say two digits twice."""
    for seed, speaker in enumerate(("theo", "george", "jackson")):
        for digit in (0, 7):
            for index in (0, 32):
                noise(root / "recordings" / f"{digit}_{speaker}_{index}.wav", 0.2, 10 * seed + digit + index)
    return root


def labelled(
    root: Path, header: str = "path,labels,fold", lines: tuple[str, ...] = ("a.wav,dog; rain,1", "b/c.wav,rain,2")
) -> Path:
    """A table of one's own."""
    text(root / "table.csv", "\n".join((header, *lines)) + "\n")
    for seed, file in enumerate(("a.wav", "b/c.wav")):
        noise(root / file, seed=seed)
    return root
