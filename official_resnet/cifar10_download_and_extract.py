"""Downloads CIFAR-10 and extracts it into --data_dir.

    python -m official_resnet.cifar10_download_and_extract --data_dir=DIR

Nothing happens when the data are there. The folder appears complete or not at
all: a broken download or a wrong checksum leaves nothing behind.
"""

import hashlib
import http.client
import os
import sys
import tarfile
import tempfile
import time
import urllib.request

from absl import app, flags

from tfcompress.datasets import cifar10

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60


def download_and_extract(data_dir, url=URL, md5=MD5):
    """Makes sure that CIFAR-10 is in `data_dir`.

    Args:
        data_dir: Where the folder `cifar-10-batches-bin` is made.
        url: Address of the archive.
        md5: Its MD5 checksum in hexadecimal digits.

    Returns:
        The path of the folder.

    Raises:
        ValueError: If the archive has another checksum or is no CIFAR-10, or
            if a folder is there that is damaged. It is left as it is.
        OSError: If the archive cannot be downloaded or written.
    """
    folder = os.path.join(data_dir, cifar10.FOLDER)
    if os.path.exists(folder):
        _check(folder)
        return folder
    os.makedirs(data_dir, exist_ok=True)
    # Beside the final place, so that the last step can be a rename.
    with tempfile.TemporaryDirectory(dir=data_dir, prefix=".cifar10-") as temp:
        archive = os.path.join(temp, "archive")
        received = _download(url, archive)
        if received != md5:
            raise ValueError(
                f"{url} has the MD5 checksum {received}, expected {md5}; try "
                "again, or give another address with --url"
            )
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(temp, filter="data")
        except tarfile.TarError as error:
            raise ValueError(
                f"{url} is not an archive that can be extracted ({error}); "
                "give another address with --url"
            ) from error
        extracted = os.path.join(temp, cifar10.FOLDER)
        _check(extracted)
        cifar10.move_folder(extracted, folder)
    return folder


def _check(folder):
    for split in cifar10.FILES:
        cifar10.read(folder, split)


def _download(url, path):
    """Saves `url` at `path`; returns the MD5 checksum of what was received."""
    digest = hashlib.md5(usedforsecurity=False)
    progress = _Progress(os.path.basename(url))
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
            open(path, "wb") as file,
        ):
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                progress.update(file.tell(), total)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"cannot download {url} ({error}); give another address with --url"
        ) from error
    progress.finish()
    return digest.hexdigest()


class _Progress:
    """One line on the standard error, renewed a few times a second."""

    def __init__(self, name):
        self._name = name
        self._shown = 0.0

    def update(self, done, total):
        now = time.monotonic()
        if now - self._shown < 0.2 and done != total:
            return
        self._shown = now
        share = (
            f" of {total / 1e6:.1f} MB ({done / total:.0%})" if total else ""
        )
        sys.stderr.write(f"\r{self._name}: {done / 1e6:.1f} MB{share}")
        sys.stderr.flush()

    def finish(self):
        sys.stderr.write("\n")


def define_flags():
    flags.DEFINE_string("data_dir", "data", "Folder that gets the data.")
    flags.DEFINE_string("url", URL, "Address of the archive.")
    flags.DEFINE_string("md5", MD5, "MD5 checksum of the archive.")


def main(_):
    values = flags.FLAGS
    try:
        folder = download_and_extract(values.data_dir, values.url, values.md5)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"CIFAR-10 is in {folder}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
