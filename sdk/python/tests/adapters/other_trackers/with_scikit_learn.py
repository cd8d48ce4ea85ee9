"""scikit-learn, whose scores are logged to W&B by the script, or by MLflow's autolog."""

import sys

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

features, labels = load_iris(return_X_y=True)
model = RandomForestClassifier(n_estimators=7, max_depth=3, random_state=1)
if sys.argv[1] == "wandb":
    import wandb

    with wandb.init(name="trained", config=model.get_params()) as run:
        model.fit(features, labels)
        run.log({"training_accuracy_score": model.score(features, labels)})
else:
    import mlflow

    mlflow.sklearn.autolog()
    with mlflow.start_run(run_name="trained"):
        model.fit(features, labels)
