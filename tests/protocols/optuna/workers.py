"""The processes of the tests: each is a worker with its own client."""

from __future__ import annotations

import optuna
from optuna.storages import GrpcStorageProxy
from optuna.trial import TrialState

SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=4),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def proxy(place):
    host, port = place
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return GrpcStorageProxy(host=host, port=port)


def parabola(trial):
    x = trial.suggest_float("x", -10, 10)
    y = trial.suggest_float("y", 1e-3, 10, log=True)
    trial.set_user_attr("sum", x + y)
    return (x - 2) ** 2 + y


def learning(trial):
    """An objective whose trials get better with each step. The better ones are ahead from the start."""
    rate = trial.suggest_float("rate", 0, 1)
    trial.suggest_categorical("kind", ["a", "b"])
    for step in range(27):
        trial.report(rate + 1 / (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return rate


def optimize(place, name, sampler, count, seed):
    """Runs some trials of a study."""
    study = optuna.load_study(study_name=name, storage=proxy(place), sampler=SAMPLERS[sampler](seed))
    study.optimize(parabola, n_trials=count)


def prune(place, name, count, seed):
    """Runs some trials that a pruner may stop."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=27, reduction_factor=3)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.load_study(study_name=name, storage=proxy(place), sampler=sampler, pruner=pruner)
    study.optimize(learning, n_trials=count)


def add(place, study_id, count):
    """Adds trials, and returns their ids."""
    storage = proxy(place)
    return [storage.create_new_trial(study_id) for _ in range(count)]


def take(place, trial_ids):
    """Tries to take each of the waiting trials, and returns those that it has got."""
    storage = proxy(place)
    return [trial_id for trial_id in trial_ids if storage.set_trial_state_values(trial_id, TrialState.RUNNING)]


def report(place, study_id, acknowledged):
    """Runs trials until the server is killed, and puts what was acknowledged into a queue."""
    storage = proxy(place)
    number = 0
    try:
        while True:
            trial_id = storage.create_new_trial(study_id)
            acknowledged.put(("trial", trial_id, None))
            for step in range(5):
                storage.set_trial_intermediate_value(trial_id, step, float(number))
                acknowledged.put(("value", trial_id, step))
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [float(number)])
            acknowledged.put(("end", trial_id, float(number)))
            number += 1
    except Exception as error:
        acknowledged.put(("error", type(error).__name__, None))
