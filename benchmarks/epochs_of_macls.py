"""The trainer of macls 1.0.6 in a separate process that trains one epoch for each command on stdin.

    PYTHON benchmarks/epochs_of_macls.py CONFIG FOLDER --batch 16       with a Python that has macls 1.0.6

Like `epochs.py`, with the same lists. CONFIG is a configuration shipped with macls, with its augmentation; dataset,
collation, loader and the steps of an epoch are its own, without evaluation and checkpoints. `workers N` sets the number
of its loader's workers. Its resampler is compiled before the first worker is forked, which a long epoch would hide.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import macls
import yaml
from macls.trainer import LogWriter, MAClsTrainer

ANSWERS = sys.stdout


class Trainer:
    """The trainer of macls, whose private methods are called one by one."""

    def __init__(self, options):
        shipped = Path(macls.__file__).parent / "configs"
        tables = yaml.safe_load((shipped / f"{options.name}.yml").read_text(encoding="utf-8"))
        for key, name in (("train_list", "train"), ("test_list", "test"), ("label_list_path", "labels")):
            tables["dataset_conf"][key] = str(options.folder / f"{name}.txt")
        augmentation = str(shipped / "augmentation.yml")
        self.own = MAClsTrainer(tables, use_gpu=False, data_augment_configs=augmentation, log_level="warning")
        self.writer = LogWriter(logdir=str(options.folder / f"macls-{options.name}"))
        self.batch, self.number = options.batch, 0
        self.workers(0)
        self.own._MAClsTrainer__setup_model(input_size=self.own.audio_featurizer.feature_dim, is_train=True)
        self.own.max_step, self.own.train_step = 1 << 20, 0
        self.own.model.train()
        for row in range(8):
            self.own.train_dataset[row]

    def workers(self, count):
        """Create its loader again; that changes the configuration, which is therefore set first."""
        data = self.own.configs.dataset_conf
        data.dataset.max_duration = 3
        data.dataLoader.batch_size, data.dataLoader.num_workers, data.dataLoader.drop_last = self.batch, count, True
        self.own._MAClsTrainer__setup_dataloader(is_train=True)
        return count

    def epoch(self):
        """Train an epoch; returns clips/s."""
        self.number += 1
        began = time.perf_counter()
        self.own._MAClsTrainer__train_epoch(epoch_id=self.number, local_rank=0, writer=self.writer)
        return len(self.own.train_loader) * self.batch / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="name of a configuration")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    sys.stdout = sys.stderr  # output of libraries must not mix with the answers
    loop = Trainer(options)
    for command in sys.stdin:
        name, *numbers = command.split()
        print(json.dumps(getattr(loop, name)(*map(int, numbers))), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
