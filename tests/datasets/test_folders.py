"""Image folders: what counts, what the networks see, and damage."""

import shutil

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import small_folders  # noqa: E402
import small_records  # noqa: E402

from tfcompress.datasets import (  # noqa: E402
    augmentation,
    folders,
    imagenet,
    normalization,
)
from tfcompress.datasets.source import readable_errors  # noqa: E402


def load(folder, **arguments):
    return folders.load(str(folder), **{"resize": 36, "crop": 32} | arguments)


def labels_of(dataset):
    return np.concatenate([batch[1] for batch in dataset])


def png(pixels):
    return tf.io.encode_png(np.asarray(pixels, np.uint8))


# What counts.


def test_classes_are_folders_in_alphabetical_order(folders_dir):
    source = load(folders_dir)
    assert source.num_classes == 4 and source.image_shape == (32, 32, 3)
    for split, classes in (
        ("train", small_folders.TRAIN),
        ("test", small_folders.TEST),
    ):
        assert source.num_examples(split) == sum(classes.values())
    labels = labels_of(source.evaluation(23))
    expected = np.repeat(range(4), list(small_folders.TEST.values()))
    np.testing.assert_array_equal(labels, expected)
    # Some are left out at random, at most what does not fill a batch.
    counts = np.bincount(labels_of(source.train(1, 0, 0)))
    np.testing.assert_array_equal(counts, list(small_folders.TRAIN.values()))


def test_other_files_do_not_count(folders_dir):
    folder = folders_dir / "train" / "bee"
    before = load(folders_dir).num_examples("train")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_text("no image")
    (folders_dir / "train" / ".cache").mkdir()
    (folders_dir / "train" / "readme.jpg").write_text("in no class")
    assert load(folders_dir).num_examples("train") == before
    (folder / "more").mkdir()
    first = min(folder.glob("*.JPEG"))
    shutil.copyfile(first, folder / "more" / "again.Jpg")
    assert load(folders_dir).num_examples("train") == before + 1


def test_folders_anywhere(folders_dir, tmp_path):
    other = tmp_path / "elsewhere"
    (folders_dir / "val").rename(other)
    train = folders_dir / "train"
    for arguments in (
        dict(train_dir=train, test_dir=other),
        dict(data_dir=folders_dir, test_dir=other),
    ):
        source = folders.load(**arguments, resize=36, crop=32)
        assert source.num_examples("train") == 47
        assert source.num_examples("test") == 23


def test_evaluation_needs_no_images_for_training(folders_dir):
    shutil.rmtree(folders_dir / "train")
    source = load(folders_dir)
    assert len(labels_of(source.evaluation(23))) == 23
    with pytest.raises(ValueError, match="no images for training.*`train_dir`"):
        source.train(4, 0, 0)


def test_skipped_images_are_not_decoded(folders_dir):
    calls = []

    def counting(encoded, boxes, seed, size):
        tf.py_function(lambda: calls.append(1), [], [])
        return tf.zeros((size, size, 3))

    paths = [str(p) for p in sorted(folders_dir.glob("train/*/*"))]
    split = (paths, [0] * len(paths))
    source = folders.FolderSource(
        {"train": split, "test": split}, 1, counting, 32
    )
    assert len(list(source.train(6, 0, 0, skip_batches=6))) == 1
    assert len(calls) == 6


def test_threads(folders_dir):
    options = load(folders_dir, threads=3).train(6, 0, 0).options()
    assert options.threading.private_threadpool_size == 3


# Bad input.


def no_val(root):
    shutil.rmtree(root / "val")
    return root / "val", "does not exist"


def empty_class(root):
    for path in (root / "val" / "cat").iterdir():
        path.unlink()
    return root / "val" / "cat", "no image"


def other_classes(root):
    (root / "val" / "dog").rename(root / "val" / "wolf")
    return "'dog'", "same classes"


def no_classes(root):
    shutil.rmtree(root / "train")
    (root / "train").mkdir()
    return root / "train", "no folders"


@pytest.mark.parametrize(
    "spoil", [empty_class, no_classes, no_val, other_classes]
)
def test_wrong_folders_are_named(folders_dir, spoil):
    name, reason = spoil(folders_dir)
    with pytest.raises(ValueError) as error:
        load(folders_dir)
    assert str(name) in str(error.value) and reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (dict(augmentation="colour"), "`augmentation`.*crop, lighting, none"),
        (dict(resize=31), "`crop`.*at most `resize`"),
        (dict(normalization="mean"), "`normalization`"),
    ],
)
def test_wrong_arguments_are_named(folders_dir, arguments, match):
    with pytest.raises(ValueError, match=match):
        load(folders_dir, **arguments)


def test_no_folder_at_all():
    with pytest.raises(ValueError, match="`test_dir`.*`data_dir`"):
        folders.load()


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-200])


def text(path):
    path.write_text("no image")


def empty(path):
    path.write_bytes(b"")


def deleted(path):
    path.unlink()


@pytest.mark.parametrize("suffix", [".JPEG", ".png"])
@pytest.mark.parametrize("damage", [cut_off, deleted, empty, text])
def test_a_damaged_file_is_named(folders_dir, damage, suffix):
    path = sorted(folders_dir.glob(f"val/*/*{suffix}"))[4]
    source = load(folders_dir)
    damage(path)
    with pytest.raises(ValueError) as error, readable_errors(source):
        list(source.evaluation(6))
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert source.find_fault() == str(error.value)


# What the networks see.


def evaluated(encoded, resize, crop):
    see = augmentation.recipe(
        resize=resize, crop=crop, normalization="none", augmentation="none"
    )
    return see(encoded, None, None, crop).numpy()


@pytest.mark.parametrize(
    ("shape", "resize", "crop"),
    [
        ((61, 90), 32, 28),
        ((90, 61), 32, 27),
        ((70, 70), 36, 32),
        ((20, 33), 41, 36),
    ],
)
def test_evaluation_is_that_of_pillow(rng, shape, resize, crop):
    image = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    height, width = shape
    size = (
        (resize, int(resize * height / width))
        if width <= height
        else (int(resize * width / height), resize)
    )
    resized = image.fromarray(pixels).resize(size, image.Resampling.BILINEAR)
    left, top = (round((side - crop) / 2) for side in size)
    expected = np.asarray(
        resized.crop((left, top, left + crop, top + crop)), "float32"
    )
    found = evaluated(png(pixels), resize, crop)
    # Pillow rounds to whole values after each of two passes.
    np.testing.assert_allclose(found, expected, atol=1.1)


def test_values_are_scaled_as_pytorch_does(rng):
    grey = np.full((40, 40, 3), (10, 100, 200))
    see = augmentation.recipe(resize=36, crop=32)
    means, deviations = augmentation.STATISTICS
    expected = (np.array([10, 100, 200]) / 255 - means) / deviations
    np.testing.assert_allclose(
        see(png(grey), None, None, 32)[5, 7], expected, rtol=1e-5
    )


def test_a_function_scales_too():
    twice = normalization.get(lambda images: 2 * images)
    values = twice(tf.constant([[[1, 2, 3]]], tf.uint8))
    assert values.dtype == tf.float32
    np.testing.assert_array_equal(values, [[[2, 4, 6]]])


HEIGHT, WIDTH, SIDE = 200, 250, 8


def windows(encoded, count, kind="crop"):
    """(left, top, width, height, mirrored) of the crops of many seeds.

    The image's red is its column and its green its row, so that what is seen
    tells where it was.
    """
    see = augmentation.recipe(kind, SIDE, SIDE, normalization="none")

    def corners(seed):
        image = see(encoded, None, seed, SIDE)
        return tf.stack([image[0, 0, :2], image[-1, -1, :2]])

    seeds = [[7, i] for i in range(count)]
    found = np.stack(
        list(tf.data.Dataset.from_tensor_slices(seeds).map(corners))
    )
    first, last = found[:, 0], found[:, 1]
    extent = np.abs(last - first) * SIDE / (SIDE - 1)
    begin = np.minimum(first, last) - extent / SIDE / 2 + 0.5
    mirrored = last[:, 0] < first[:, 0]
    return np.column_stack([begin, extent, mirrored])


def coordinates(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, 0 * rows], axis=-1)


def pytorch_windows(rng, count):
    """(left, top, width, height) as torchvision's documentation has it."""
    found = []
    while len(found) < count:
        area = HEIGHT * WIDTH * rng.uniform(0.08, 1)
        aspect = np.exp(rng.uniform(*np.log([3 / 4, 4 / 3])))
        width = round(np.sqrt(area * aspect))
        height = round(np.sqrt(area / aspect))
        if width <= WIDTH and height <= HEIGHT:
            left = rng.integers(WIDTH - width + 1)
            top = rng.integers(HEIGHT - height + 1)
            found.append((left, top, width, height))
    return np.array(found)


def test_random_crops_are_distributed_as_in_pytorch(rng):
    found = windows(png(coordinates(HEIGHT, WIDTH)), 400)
    left, top, width, height, mirrored = found.T
    assert left.min() > -1 and (left + width).max() < WIDTH + 1
    assert top.min() > -1 and (top + height).max() < HEIGHT + 1
    area, aspect = width * height / (WIDTH * HEIGHT), width / height
    assert area.min() > 0.07 and area.max() > 0.9
    assert 0.73 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.37
    assert 0.4 < mirrored.mean() < 0.6
    expected = pytorch_windows(rng, 4000)
    deviation = expected.std(axis=0)
    # Of means of 400: five standard errors.
    np.testing.assert_allclose(
        (found[:, :4].mean(axis=0) - expected.mean(axis=0)) / deviation,
        0,
        atol=5 / 20,
    )
    np.testing.assert_allclose(
        found[:, :4].std(axis=0) / deviation, 1, atol=0.2
    )


def test_photographs_in_jpeg_are_cut_alike():
    pixels = coordinates(HEIGHT, WIDTH).astype(np.uint8)
    jpeg = tf.io.encode_jpeg(pixels, quality=100)
    np.testing.assert_allclose(
        windows(jpeg, 20), windows(png(pixels), 20), atol=4
    )


def test_a_strip_gives_its_centre():
    found = windows(png(coordinates(250, 10)), 5)
    # No try of aspect 3/4 or more, and 8 % of the area, is 10 wide at most.
    left, top, width, height, _ = found.T
    # 10 / (3/4) high. The edges count less where pixels are averaged.
    np.testing.assert_allclose(width, 10, atol=0.4)
    np.testing.assert_allclose(height, 13, atol=0.4)
    np.testing.assert_allclose(top, 118.5, atol=0.9)


def test_no_augmentation_is_evaluation(rng):
    encoded = png(rng.integers(0, 256, (50, 60, 3)))
    see = augmentation.recipe("none", 36, 32, "none")
    np.testing.assert_array_equal(
        see(encoded, None, [1, 2], 32), evaluated(encoded, 36, 32)
    )


def test_lighting_shifts_along_the_principal_colours():
    encoded = png(np.full((20, 20, 3), 128))
    see = augmentation.recipe("lighting", 8, 8, "none")
    seeds = tf.data.Dataset.from_tensor_slices([[3, i] for i in range(400)])
    images = np.stack(list(seeds.map(lambda seed: see(encoded, None, seed, 8))))
    assert np.ptp(images, axis=(1, 2)).max() < 1e-3
    shifts = images[:, 0, 0] / 255 - 128 / 255
    # Principal axes and deviations of Krizhevsky et al. (2012).
    axes = np.array(
        [
            [-0.5675, 0.7192, 0.4009],
            [-0.5808, -0.0045, -0.8140],
            [-0.5836, -0.6948, 0.4203],
        ]
    )
    amounts = shifts @ np.linalg.inv(axes).T / [0.2175, 0.0188, 0.0045]
    np.testing.assert_allclose(amounts.mean(axis=0), 0, atol=0.025)
    np.testing.assert_allclose(amounts.std(axis=0), 0.1, atol=0.018)


# ImageNet's records for networks without the background.


def test_labels_of_records_for_1000_classes(imagenet_dir):
    def blank(jpeg, boxes, seed, size):
        return tf.zeros((size, size, 3))

    official, pytorch = (
        imagenet.load(
            str(imagenet_dir), 8, preprocess=blank, num_classes=classes
        )
        for classes in (1001, 1000)
    )
    assert (official.num_classes, pytorch.num_classes) == (1001, 1000)
    for labels in (
        lambda source: labels_of(source.evaluation(17)),
        lambda source: labels_of(source.train(1, 0, 0)),
    ):
        np.testing.assert_array_equal(labels(pytorch), labels(official) - 1)
    assert labels_of(pytorch.evaluation(17)).min() == 0
    with pytest.raises(ValueError, match="`num_classes`.*1001.*1000.*999"):
        imagenet.load(str(imagenet_dir), num_classes=999)


def test_records_and_folders_give_the_same_images(tmp_path):
    generator = np.random.default_rng(0)
    images = [small_records.jpeg(generator, 50, 45) for _ in range(5)]
    for label, image in enumerate(images):
        for split in ("train", "val"):
            folder = tmp_path / split / f"n{label}"
            folder.mkdir(parents=True)
            (folder / "image.JPEG").write_bytes(image)
    records = [small_records.example(x, i + 1) for i, x in enumerate(images)]
    for prefix in ("train", "validation"):
        small_records.write(tmp_path / f"{prefix}-00000-of-00001", records)
    from_records = imagenet.load(
        str(tmp_path),
        image_size=32,
        preprocess=augmentation.recipe(resize=36, crop=32),
        num_classes=1000,
    )
    (ours,), (theirs,) = (
        list(source.evaluation(5)) for source in (load(tmp_path), from_records)
    )
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)
