"""The flags that the programs share, under the names people know.

Short names are those of the original tensorized system where they are free
(`-v` and `-h` belong to absl).
"""

from absl import flags

from tfcompress.datasets.normalization import NORMALIZATIONS

DATASETS = ("cifar10", "digits", "folders", "imagenet")

DATASET = flags.DEFINE_enum(
    "dataset",
    "cifar10",
    DATASETS,
    "Data set; digits are scikit-learn's in the CIFAR-10 layout, folders are "
    "images in DATA_DIR/train/CLASS and DATA_DIR/val/CLASS.",
    short_name="mc",
)
flags.DEFINE_alias("model_class", "dataset")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of the data.", short_name="dd"
)
DATA_SOURCE = flags.DEFINE_enum(
    "data_source",
    "files",
    ("files", "tfds", "synthetic"),
    "Official files, a prepared tensorflow-datasets folder, or noise.",
)
USE_SYNTHETIC_DATA = flags.DEFINE_bool(
    "use_synthetic_data",
    False,
    "The same as --data_source=synthetic.",
    short_name="synth",
)
NORMALIZATION = flags.DEFINE_enum(
    "normalization",
    None,
    tuple(NORMALIZATIONS),
    "How the values 0..255 of images are scaled for a network of other origin; "
    "by default as the official networks take them.",
)
CHANNEL_MEANS = flags.DEFINE_list(
    "channel_means",
    None,
    "In place of --normalization: means of red, green and blue, of values in "
    "[0, 1], such as 0.485,0.456,0.406.",
)
CHANNEL_DEVIATIONS = flags.DEFINE_list(
    "channel_deviations",
    None,
    "Standard deviations that belong to --channel_means.",
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    128,
    "Examples per step, over all devices.",
    lower_bound=1,
    short_name="bs",
)
TRAIN_EPOCHS = flags.DEFINE_integer(
    "train_epochs",
    0,
    "Epochs (per stage in phase 1); 0: as many as the recipe has.",
    lower_bound=0,
    short_name="te",
)
EPOCHS_BETWEEN_EVALS = flags.DEFINE_integer(
    "epochs_between_evals",
    1,
    "Epochs from one evaluation to the next.",
    lower_bound=1,
    short_name="ebe",
)
MAX_TRAIN_STEPS = flags.DEFINE_integer(
    "max_train_steps",
    None,
    "Stop the training (each stage of phase 1) after so many steps.",
    lower_bound=1,
    short_name="mts",
)
LEARNING_RATE_SCALE = flags.DEFINE_float(
    "learning_rate_scale",
    1.0,
    "Multiplies the recipe's learning rate.",
    lower_bound=0.0,
)
STRETCH_RECIPE = flags.DEFINE_bool(
    "stretch_recipe",
    False,
    "Move the epochs at which the recipe lowers the learning rate in "
    "proportion to the epochs asked for.",
)
DISTILLATION = flags.DEFINE_float(
    "distillation",
    0.0,
    "Share of the distillation from the original network in the loss of an end "
    "to end training; 0: none.",
    lower_bound=0.0,
    upper_bound=1.0,
)
TEMPERATURE = flags.DEFINE_float(
    "temperature", 4.0, "Temperature of the distillation.", lower_bound=0.0
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the initial weights, the data order and augmentation."
)
CHECKPOINT_STEPS = flags.DEFINE_integer(
    "checkpoint_steps",
    500,
    "Steps from one checkpoint to the next; there is one at each epoch's end.",
    lower_bound=1,
)

RESNET_SIZE = flags.DEFINE_integer(
    "resnet_size",
    None,
    "Depth of the ResNet to build; 32 for CIFAR-10, 8 for digits, 50 for "
    "ImageNet by default.",
    short_name="rs",
)
RESNET_VERSION = flags.DEFINE_enum(
    "resnet_version",
    "2",
    ("1", "2"),
    "Version of the ResNet to build.",
    short_name="rv",
)
DATA_FORMAT = flags.DEFINE_enum(
    "data_format",
    None,
    ("channels_first", "channels_last"),
    "Layout of the activations of a model that is built here.",
    short_name="df",
)
BATCH_NORM_MOMENTUM = flags.DEFINE_float(
    "batch_norm_momentum",
    None,
    "Of a model that is built here: 0.997, as official, or 0.9 for digits, by "
    "default. Short trainings need a small one.",
    lower_bound=0.0,
    upper_bound=0.9999,
)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "fp32",
    ("fp32", "fp16", "bf16"),
    "Computation in mixed precision, or not, of a network that is built here "
    "or is of the zoo; weights stay float32.",
)

DISTRIBUTION_STRATEGY = flags.DEFINE_enum(
    "distribution_strategy",
    "default",
    ("default", "off", "one_device", "mirrored", "multi_worker_mirrored"),
    "How to train on several devices (TF_CONFIG names the workers).",
    short_name="ds",
)
NUM_GPUS = flags.DEFINE_integer(
    "num_gpus",
    None,
    "GPUs to use on this machine; all that are there by default.",
    lower_bound=0,
    short_name="ng",
)
MULTI_GPU = flags.DEFINE_bool(
    "multi_gpu",
    False,
    "The same as --distribution_strategy=mirrored.",
)
VIRTUAL_CPUS = flags.DEFINE_integer(
    "virtual_cpus",
    None,
    "Split the CPU into so many devices; for trying out mirrored training.",
    lower_bound=1,
)
INTRA_OP_THREADS = flags.DEFINE_integer(
    "intra_op_parallelism_threads", 0, "Threads in an operation; 0: all cores."
)
INTER_OP_THREADS = flags.DEFINE_integer(
    "inter_op_parallelism_threads", 0, "Operations at a time; 0: all cores."
)

METHOD = flags.DEFINE_string(
    "method", None, "Decomposition, such as cp or tucker.", short_name="mt"
)
RATE = flags.DEFINE_float(
    "rate",
    None,
    "Share of the parameters to keep, in (0, 1].",
    short_name="cr",
)
RATE_DECAY = flags.DEFINE_enum(
    "rate_decay",
    "flat",
    ("flat", "linear_inc", "linear_dec"),
    "How the rate changes from stage to stage.",
    short_name="rdy",
)
INCLUDE = flags.DEFINE_multi_string(
    "include", None, "Compress only layers of this name or regex; repeatable."
)
EXCLUDE = flags.DEFINE_multi_string(
    "exclude",
    None,
    "Leave layers of this name or regex alone; repeatable. By default the "
    "stem and the classifier of an official ResNet; 'none' for no layer.",
)

PRETRAINED_MODEL = flags.DEFINE_string(
    "pretrained_model",
    None,
    "Trained model: a .keras file, a folder with model.keras, or an official "
    "TF1 checkpoint.",
    short_name="pmd",
)
flags.DEFINE_alias("pretrained_model_dir", "pretrained_model")
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Folder of the results, phaseN/METHOD/rateRATE in it.",
    short_name="op",
)
flags.DEFINE_alias("output_path", "output_dir")
OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Move a folder of other settings aside and start anew.",
)
