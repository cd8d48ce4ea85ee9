/**
 * The ways to a first run, each with a command that installs it and a text to paste. The scripts run
 * with the oldest client that their command installs, so they use nothing newer: 0.3 is what pip
 * gives without a version, and has no context manager.
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
  /** What the text does, and where it goes. */
  hint: string;
  install: string;
  code: string;
  /** What else the way needs or does; empty: nothing. */
  note: string;
}

/** A version that pip refuses to replace by an older one. */
const WITH_IMPORTERS = 'pip install "matyan-client>=0.4"';
const IMPORTERS_NOTE = 'Importers need version 0.4 of matyan-client or newer.';

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
      hint: 'Change the import of a script. The rest stays as it is.',
      install: WITH_IMPORTERS,
      code: `import os
os.environ["MATYAN_BACKEND_URL"] = "${address}"
import matyan_client.wandb as wandb

with wandb.init(project="first steps", config={"lr": 0.01}):
    for step in range(100):
        wandb.log({"train/loss": 1 / (step + 1)})
`,
      note: `Offline runs are imported by matyan-client import wandb wandb/ --repo ${address}. Both need version 0.4 of matyan-client or newer.`,
    },
    {
      id: 'mlflow',
      title: 'MLflow',
      hint: 'Run this where the directory mlruns or the file mlflow.db is.',
      install: WITH_IMPORTERS,
      code: `matyan-client import mlflow . --repo ${address}\n`,
      note: IMPORTERS_NOTE,
    },
    {
      id: 'tensorboard',
      title: 'TensorBoard',
      hint: 'Run this where the directory with the event files is.',
      install: WITH_IMPORTERS,
      code: `matyan-client import tensorboard logs/ --repo ${address}\n`,
      note: IMPORTERS_NOTE,
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
