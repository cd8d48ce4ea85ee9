"""Keras with the callback of W&B, or MLflow's autolog."""

import sys

import keras
import numpy as np

random = np.random.default_rng(7)
features = random.normal(size=(64, 4)).astype("float32")
labels = (features[:, :1] > 0).astype("float32")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
model.compile(optimizer="sgd", loss="binary_crossentropy")
if sys.argv[1] == "wandb":
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    with wandb.init(name="trained", config={"rate": 0.1}):
        model.fit(features, labels, epochs=3, verbose=0, callbacks=[WandbMetricsLogger()])
else:
    import mlflow

    mlflow.keras.autolog()
    with mlflow.start_run(run_name="trained"):
        model.fit(features, labels, epochs=3, verbose=0)
