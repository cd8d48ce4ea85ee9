"""Lightning with the logger of the tracker that the argument names."""

import os
import sys
import tempfile

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger


class Model(LightningModule):
    def __init__(self, rate=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _index):
        loss = (self.layer(batch[0]) ** 2).mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams["rate"])


dataset = torch.utils.data.TensorDataset(torch.linspace(0, 1, 64).reshape(16, 4))
loader = torch.utils.data.DataLoader(dataset, batch_size=4)
with tempfile.TemporaryDirectory() as directory:
    if sys.argv[1] == "wandb":
        logger = WandbLogger(name="trained", save_dir=directory)
    else:
        logger = MLFlowLogger(
            experiment_name=os.environ["MLFLOW_EXPERIMENT_NAME"], run_name="trained"
        )
    Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=directory,
    ).fit(Model(), loader)
