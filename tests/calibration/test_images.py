"""Images from whatever people have."""

import keras
import numpy as np
import pytest

from tfcompress.calibration.images import class_numbers, gather


@pytest.fixture
def model():
    inputs = keras.Input((6, 6, 3))
    return keras.Model(inputs, keras.layers.Flatten()(inputs))


@pytest.fixture
def x(rng):
    return rng.normal(size=(20, 6, 6, 3)).astype("float32")


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, i):
        rows = slice(5 * i, 5 * i + 5)
        return self.x[rows], self.y[rows]


def test_every_kind_gives_the_same(model, x):
    y = np.arange(20)
    pairs = [(x[i : i + 5], y[i : i + 5]) for i in range(0, 20, 5)]
    for data, labelled in (
        (x, False),
        ((x, y), True),
        ([x[:7], x[7:]], False),
        (pairs, True),
        ((pair for pair in pairs), True),
        (Batches(x, y), True),
        ([(batch, np.eye(20)[own]) for batch, own in pairs], True),
    ):
        batches, labels = gather(model, data, batch_size=8)
        assert [len(b) for b in batches] == [8, 8, 4]
        np.testing.assert_array_equal(np.concatenate(batches), x)
        if labelled:
            np.testing.assert_array_equal(class_numbers(labels), y)
        else:
            assert labels is None


def test_a_limit_ends_a_generator_without_end(model, x):
    def forever():
        while True:
            yield x[:6], np.zeros(6)

    batches, labels = gather(model, forever(), limit=9)
    assert sum(map(len, batches)) == len(class_numbers(labels)) == 9


def test_a_dataset_of_tensorflow(model, x):
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((x, np.arange(20))).batch(6)
    batches, labels = gather(model, data)
    np.testing.assert_array_equal(np.concatenate(batches), x)
    np.testing.assert_array_equal(class_numbers(labels), np.arange(20))


def with_nan(x):
    x = x.copy()
    x[11, 0, 0, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda x: None, ValueError, "`data` must be images"),
        (lambda x: x[:0], ValueError, "at least 8 images.*Received: 0"),
        (lambda x: x[:1], ValueError, "at least 8 images.*Received: 1"),
        (lambda x: [], ValueError, "at least 8 images.*Received: 0"),
        (lambda x: x[..., :2], ValueError, r"like the model's input.*6, 6, 2"),
        (lambda x: x[0], ValueError, "like the model's input"),
        (with_nan, ValueError, "NaN or infinity in image 11"),
        (lambda x: 3, TypeError, "Received: <class 'int'>"),
    ],
    ids=["none", "empty", "one", "no batch", "shape", "rank", "nan", "number"],
)
def test_bad_data_is_named(model, x, spoil, error, message):
    with pytest.raises(error, match=message):
        gather(model, spoil(x))


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((20, 6, 6, 1)),
        {"boxes": np.zeros(20)},
        np.array(["cat"] * 20),
        np.zeros(3),
    ],
    ids=["masks", "dictionary", "text", "few"],
)
def test_labels_are_looked_at_where_they_are_needed(model, x, labels):
    batches, found = gather(model, [(x, labels)])
    np.testing.assert_array_equal(np.concatenate(batches), x)
    with pytest.raises(ValueError, match="Labels must be .* for 20 images"):
        class_numbers(found)


def test_a_limit_below_what_is_needed_is_named(model, x):
    with pytest.raises(ValueError, match="number of images .* Received: 4"):
        gather(model, x, limit=4)


def test_models_of_several_inputs_are_refused(x):
    inputs = [keras.Input((2,)), keras.Input((2,))]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    with pytest.raises(TypeError, match="one input"):
        gather(model, x)
