"""Names of the decompositions."""

import pytest

from tfcompress import decompositions


def test_every_name_leads_to_its_class_and_back():
    for name, cls in decompositions.REGISTRY.items():
        assert decompositions.get(name) is cls
        assert decompositions.resolve(name) == name
    assert decompositions.methods() == tuple(decompositions.REGISTRY)


@pytest.mark.parametrize("method", decompositions.methods())
def test_name_of_a_value_rebuilds_it(method):
    for shape, dense in [((3, 3, 8, 8), False), ((1, 1, 8, 8), True)]:
        cls = decompositions.for_kernel(method, shape, dense=dense)
        value = cls(shape, (1,) * len(cls.rank_names))
        name = decompositions.name_of(value)
        again = decompositions.for_kernel(name, shape, dense=dense)
        assert again(shape, value.ranks) == value


@pytest.mark.parametrize("alias, name", [("tk", "tucker"), ("cp3", "cp")])
def test_aliases_are_resolved(alias, name):
    assert decompositions.resolve(alias) == name
    assert decompositions.get(alias) is decompositions.get(name)
    assert alias not in decompositions.methods()


@pytest.mark.parametrize("wrong", ["tuker", "", "SVD", None, 3])
def test_unknown_names_list_the_valid_ones(wrong):
    with pytest.raises(ValueError, match="`method` must be one of svd, conv_"):
        decompositions.get(wrong)


def test_a_near_miss_is_named():
    with pytest.raises(ValueError, match="Did you mean 'tucker'?"):
        decompositions.resolve("tuker")


def test_methods_without_image_axes_mean_something_else():
    def meant(method, shape, dense):
        return decompositions.for_kernel(method, shape, dense=dense).__name__

    for method in ("svd", "conv_svd", "cp", "cp4", "tucker", "tt", "tr"):
        assert meant(method, (1, 1, 8, 8), False) == "SVD"
    assert meant("tucker", (1, 1, 8, 8), True) == "ReshapedTucker"
    assert meant("conv_svd", (1, 1, 8, 8), True) == "SVD"
    assert meant("rtt", (1, 1, 8, 8), False) == "ReshapedTensorTrain"
    assert meant("cp", (3, 1, 8, 8), False) == "CP"
