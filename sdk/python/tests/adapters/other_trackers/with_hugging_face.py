"""The Trainer of Hugging Face, which reports to the tracker that the argument names."""

import sys
import tempfile

import torch
from transformers import Trainer, TrainingArguments


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, features, labels):
        logits = self.layer(features)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        return {"features": torch.full((4,), float(index)), "labels": index % 2}


with tempfile.TemporaryDirectory() as directory:
    arguments = TrainingArguments(
        output_dir=directory,
        report_to=sys.argv[1],
        run_name="trained",
        logging_steps=1,
        max_steps=8,
        per_device_train_batch_size=4,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(model=Model(), args=arguments, train_dataset=Rows()).train()
