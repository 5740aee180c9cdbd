"""The input recipes of the official ResNet, by name.

`cifar10(images, seeds=None)`: pad by 4, cut out 32x32 at random, flip at
random, standardise each image; only the last without seeds.

`imagenet(jpeg, boxes=None, seed=None, size=224)`: cut out a random part, flip
at random, resize, subtract the channel means; without a seed resize the shorter
side to 256 and take the centre.
"""

from tfcompress.datasets.preprocessing import cifar10, imagenet

__all__ = ["cifar10", "imagenet"]
