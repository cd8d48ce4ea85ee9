"""XGBoost with the callback of W&B, or MLflow's autolog."""

import sys

import numpy as np
import xgboost

random = np.random.default_rng(7)
features = random.normal(size=(64, 4))
data = xgboost.DMatrix(features, (features[:, 0] > 0).astype(int))
params = {"objective": "binary:logistic", "eval_metric": "logloss", "nthread": 1}
if sys.argv[1] == "wandb":
    import wandb
    from wandb.integration.xgboost import WandbCallback

    with wandb.init(name="trained", config=params):
        xgboost.train(params, data, 5, evals=[(data, "train")], callbacks=[WandbCallback()])
else:
    import mlflow

    mlflow.xgboost.autolog()
    with mlflow.start_run(run_name="trained"):
        xgboost.train(params, data, 5, evals=[(data, "train")], verbose_eval=False)
