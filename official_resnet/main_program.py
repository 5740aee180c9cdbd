"""What `cifar10_main` and `imagenet_main` do: train or evaluate a ResNet."""

from absl import flags as absl_flags

from official_resnet import baseline
from tfcompress.cli import flags, models
from tfcompress.cli.session import Session

MODEL_DIR = absl_flags.DEFINE_string(
    "model_dir", None, "Folder of the model and its training.", short_name="md"
)
EVAL_ONLY = absl_flags.DEFINE_bool(
    "eval_only", False, "Evaluate the model in --model_dir, train nothing."
)


def main():
    if MODEL_DIR.value is None:
        raise ValueError("`--model_dir` is needed; name a folder")
    session = Session()
    if EVAL_ONLY.value:
        model = session.load(models.existing(MODEL_DIR.value))
        for name, value in session.evaluate(model).items():
            session.print(f"{name}: {value:.4f}")
        return
    baseline.train(
        session,
        MODEL_DIR.value,
        flags.TRAIN_EPOCHS.value,
        compressed=(flags.METHOD.value, flags.RATE.value) != (None, None),
    )
