"""The download program, with archives of its own on this machine."""

import functools
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from official_resnet import (  # noqa: E402
    cifar10_download_and_extract as download,
)
from tfcompress.datasets import cifar10  # noqa: E402


def make_archive(folder, names=None):
    """A small CIFAR-10 as tar.gz; returns its URL and checksum."""
    images = np.random.default_rng(0).integers(
        0, 256, (25, 32, 32, 3), dtype=np.uint8
    )
    labels = np.arange(25) % 10
    cifar10.write_binary(str(folder), images, labels, images[:5], labels[:5])
    path = folder / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in names or cifar10.FILES["train"] + cifar10.FILES["test"]:
            inner = f"{cifar10.FOLDER}/{name}"
            tar.add(folder / inner, arcname=inner)
    return path.as_uri(), hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "origin"
    folder.mkdir()
    return make_archive(folder)


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_the_data_can_be_read(archive, data_dir):
    folder = download.download_and_extract(str(data_dir), *archive)
    assert folder == str(data_dir / cifar10.FOLDER)
    assert os.listdir(data_dir) == [cifar10.FOLDER]
    images, labels = cifar10.read(str(data_dir), "train")
    np.testing.assert_array_equal(labels, np.arange(25) % 10)
    assert images.shape == (25, 32, 32, 3)


def test_data_that_are_there_are_not_downloaded(archive, data_dir):
    download.download_and_extract(str(data_dir), *archive)
    folder = download.download_and_extract(
        str(data_dir), "file:///nowhere", "0" * 32
    )
    assert folder == str(data_dir / cifar10.FOLDER)


def test_damaged_data_that_are_there_are_reported_and_kept(archive, data_dir):
    folder = download.download_and_extract(str(data_dir), *archive)
    path = os.path.join(folder, "test_batch.bin")
    with open(path, "wb") as file:
        file.write(b"short")
    with pytest.raises(ValueError, match="test_batch.bin is truncated"):
        download.download_and_extract(str(data_dir), *archive)
    assert os.path.getsize(path) == 5


def test_a_wrong_checksum_extracts_nothing(archive, data_dir):
    url, checksum = archive
    with pytest.raises(ValueError, match=f"{checksum}, expected {'0' * 32}"):
        download.download_and_extract(str(data_dir), url, "0" * 32)
    assert os.listdir(data_dir) == []


def test_a_missing_file_in_the_archive_extracts_nothing(tmp_path, data_dir):
    (tmp_path / "origin").mkdir()
    archive = make_archive(tmp_path / "origin", names=["test_batch.bin"])
    with pytest.raises(ValueError, match="data_batch_1.bin does not exist"):
        download.download_and_extract(str(data_dir), *archive)
    assert os.listdir(data_dir) == []


def test_an_archive_cannot_write_elsewhere(tmp_path, data_dir):
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("../../escaped")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    checksum = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="cannot|can be extracted"):
        download.download_and_extract(str(data_dir), path.as_uri(), checksum)
    assert os.listdir(data_dir) == []
    assert not (tmp_path / "escaped").exists()


def test_no_archive_at_all(tmp_path, data_dir):
    path = tmp_path / "page.html"
    path.write_text("moved")
    checksum = hashlib.md5(b"moved").hexdigest()
    with pytest.raises(ValueError, match="not an archive"):
        download.download_and_extract(str(data_dir), path.as_uri(), checksum)


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    handler = functools.partial(Silent, directory=str(tmp_path / "origin"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run(*arguments):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "official_resnet.cifar10_download_and_extract",
            *arguments,
        ],
        capture_output=True,
        text=True,
    )


def test_program_over_http(archive, server, data_dir):
    done = run(
        f"--data_dir={data_dir}",
        f"--url={server}/cifar.tar.gz",
        f"--md5={archive[1]}",
    )
    assert done.returncode == 0, done.stderr
    assert f"CIFAR-10 is in {data_dir}" in done.stdout
    assert "MB (100%)" in done.stderr
    cifar10.load(str(data_dir))


def test_program_reports_a_missing_archive_in_one_line(
    archive, server, data_dir
):
    failed = run(f"--data_dir={data_dir}", f"--url={server}/none.tar.gz")
    assert failed.returncode == 1
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: cannot download {server}/none.tar.gz")
    assert "404" in last and "Traceback" not in failed.stderr
    assert os.listdir(data_dir) == []


def test_the_official_archive_is_the_default():
    assert download.URL.endswith("cs.toronto.edu/~kriz/cifar-10-binary.tar.gz")
    assert download.MD5 == "c32a1d4ab5d03f1284b67883e8d87530"
