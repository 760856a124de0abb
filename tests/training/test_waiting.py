"""A step of the engine never makes Python wait for the device, and a scored batch does once."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from helpers.synchronising import META, synchronising
from helpers.toys import ToyDataset, ToyLoss
from helpers.training import WINDOW, ArrayStore, made

from soundbench.data.batches import training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.machine import Machine
from soundbench.model.scoring import Scorer
from soundbench.model.weights import Average
from soundbench.training.step import Rules, make_trainer

MACHINE = Machine(META, "fp32", 1, False)
ORDER = Order(np.arange(26), batch=6, seed=5)
DATASET = ToyDataset(clips=26)
RAWS = list(training_batches(ArrayStore(DATASET), ClipTable.of(DATASET), ORDER, WINDOW, 2))


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_no_step_of_the_engine_waits(pieces: int, decay: float) -> None:
    ready = made(ORDER, 2)
    network = ready.network.to(META)
    ready.step.to(META)
    optimizer = torch.optim.AdamW(network.parameters())
    ready = attrs.evolve(
        ready,
        machine=MACHINE,
        augmentations=[],
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        class_weights=torch.ones(2, device=META),
        average=Average(network, decay, 0),
    )
    trainer = make_trainer(ready, Rules(epochs=2, seed=5, level=-20.0, accumulate=pieces, max_grad_norm=1.0))
    with synchronising() as found:
        trainer.run(RAWS, max_epochs=2, epoch_length=ORDER.steps)
    assert trainer.state.iteration == 2 * ORDER.steps
    assert found == []


def test_a_scored_batch_waits_once_for_all_that_it_gives() -> None:
    scorer = Scorer(made(ORDER, 1).network.to(META).eval(), ToyLoss(2), MACHINE, "off")
    for score in (scorer.scores_and_losses, scorer.rated, scorer.scores, scorer.embeddings):
        with synchronising() as found:
            score(RAWS[0])
        assert found == ["copy to the host"], score
