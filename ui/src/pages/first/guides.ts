/**
 * The ways to a first run, each with a command that installs it and a text to paste. Scripts for our
 * package run with the oldest version that their command installs, so they use nothing newer: 0.3 is
 * what pip gives without a version, and has no context manager.
 */
export const GUIDE_IDS = [
  'script',
  'wandb',
  'mlflow',
  'tensorboard',
  'lightning',
  'hugging-face',
] as const;
export type GuideId = (typeof GUIDE_IDS)[number];

export interface Guide {
  id: GuideId;
  title: string;
  /** The purpose of the text, and where it goes. */
  hint: string;
  install: string;
  code: string;
  /** Further needs or effects of the way; empty: none. */
  note: string;
}

/** Guides whose texts log to `address`, the address of the project. */
export function guidesFor(address: string): Guide[] {
  return [
    {
      id: 'script',
      title: 'Script',
      hint: 'Run this in Python. It tracks a hundred steps of two metrics.',
      install: 'pip install matyan-client',
      code: `import math
from matyan_client import Run

run = Run(repo="${address}", experiment="first steps")
run["hparams"] = {"lr": 0.01, "batch_size": 32}
for step in range(100):
    loss = math.exp(-step / 30)
    run.track(loss, name="loss", step=step, context={"subset": "train"})
    run.track(1 - loss, name="accuracy", step=step)
run.close()
`,
      note: '',
    },
    {
      id: 'wandb',
      title: 'W&B',
      hint: 'Scripts that use wandb run unchanged, with these variables.',
      install: 'pip install wandb',
      code: `import os
os.environ["WANDB_BASE_URL"] = "${address}"
os.environ["WANDB_API_KEY"] = "x" * 40  # where access control is on: your token
os.environ["WANDB__FILE_STREAM_TRANSMIT_INTERVAL"] = "1"  # seconds; otherwise 15
import wandb

with wandb.init(project="first steps", config={"lr": 0.01}):
    for step in range(100):
        wandb.log({"train/loss": 1 / (step + 1)})
`,
      note: 'The module matyan_client.wandb, of version 0.4 or newer, also survives a kill -9 of the script.',
    },
    {
      id: 'mlflow',
      title: 'MLflow',
      hint: 'Scripts that use mlflow run unchanged, with this address or the variable MLFLOW_TRACKING_URI.',
      install: 'pip install mlflow',
      code: `import mlflow

mlflow.set_tracking_uri("${address}")
mlflow.set_experiment("first steps")
with mlflow.start_run():
    mlflow.log_param("lr", 0.01)
    for step in range(100):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
`,
      note: `Where access control is on, MLFLOW_TRACKING_TOKEN is your token. Old runs are imported by matyan-client import mlflow . --repo ${address}.`,
    },
    {
      id: 'tensorboard',
      title: 'TensorBoard',
      hint: 'Run this where the directory with the event files is. It follows what scripts add, until Ctrl-C.',
      install: 'pip install matyan',
      code: `matyan follow runs/ --server ${address}\n`,
      note: 'With --once, it stores what is there and ends.',
    },
    {
      id: 'lightning',
      title: 'Lightning',
      hint: 'Give the logger to a trainer.',
      install: 'pip install "matyan-client[pytorch-lightning]"',
      code: `from lightning.pytorch import Trainer
from matyan_client.adapters.pytorch_lightning import MatyanLogger

logger = MatyanLogger(repo="${address}", experiment="first steps")
trainer = Trainer(logger=logger, log_every_n_steps=1)
trainer.fit(model)  # your LightningModule
`,
      note: '',
    },
    {
      id: 'hugging-face',
      title: 'Hugging Face',
      hint: 'Give the callback to a trainer.',
      install: 'pip install "matyan-client[hugging-face]"',
      code: `from matyan_client.adapters.hugging_face import MatyanCallback

callback = MatyanCallback(repo="${address}", experiment="first steps")
trainer.add_callback(callback)  # your transformers.Trainer
trainer.train()
`,
      note: '',
    },
  ];
}
