"""The flags of the programs for networks of the zoo.

People know them by the names of two systems, `-lr`, `-wd`, `-net`, which mean
other things elsewhere: each program says which of `NAMES` are its own, see
`program.run`.
"""

from absl import flags

from tfcompress.datasets.augmentation import AUGMENTATIONS

NETWORK = flags.DEFINE_string(
    "network",
    None,
    "Network of the zoo, such as imagenet_resnet18 or cifar10_densenet40.",
)
WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "Weights to begin with: a .keras file, of the network or of what a "
    "compression made of it; .weights.h5; or a state dict of PyTorch, .pth, "
    ".pt or .safetensors. 'imagenet' is what Keras downloads for "
    "keras.applications.",
)
LEARNING_RATE = flags.DEFINE_float(
    "learning_rate",
    None,
    "Learning rate, at its largest; the recipe's by default.",
    lower_bound=0.0,
)
WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay",
    None,
    "L2 as PyTorch has it, of all trained variables; the recipe's by default.",
    lower_bound=0.0,
)
MOMENTUM = flags.DEFINE_float(
    "momentum",
    None,
    "Momentum of SGD; the recipe's, 0.9, by default.",
    lower_bound=0.0,
    upper_bound=0.9999,
)
TRAIN_DIR = flags.DEFINE_string(
    "train_dir", None, "Folder with a folder of training images per class."
)
VAL_DIR = flags.DEFINE_string(
    "val_dir", None, "Folder with a folder of images to evaluate on per class."
)
IMAGE_RESIZE = flags.DEFINE_integer(
    "image_resize",
    None,
    "Length of the shorter side of photographs whose centre is evaluated; the "
    "network's, mostly 256, by default.",
    lower_bound=1,
)
IMAGE_CROP = flags.DEFINE_integer(
    "image_crop",
    None,
    "Height and width of the photographs that the network sees; the "
    "network's, mostly 224, by default.",
    lower_bound=1,
)
AUGMENTATION = flags.DEFINE_enum(
    "augmentation",
    None,
    tuple(AUGMENTATIONS),
    "crop: random crops and flips in training; lighting: that and random "
    "colours, of photographs; none. The recipe's by default.",
)
WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Threads that read and decode photographs; as many as are of use by "
    "default.",
    lower_bound=1,
)
AMP = flags.DEFINE_bool("amp", False, "The same as --dtype=fp16.")

NAMES = {
    "net": "network",
    "lr": "learning_rate",
    "epochs": "train_epochs",
    "wd": "weight_decay",
    "b": "batch_size",
    "train": "train_dir",
    "val": "val_dir",
}
