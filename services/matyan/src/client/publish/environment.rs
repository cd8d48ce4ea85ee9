//! The environment of a script, which a copy has only if it is asked for.

use matyan_value::{Map, Value, cbor};

use super::Error;

/// Key of the params in which our clients keep the environment of a run: variables, packages and paths.
const ENVIRONMENT: &str = "__system_params";
const WANDB: &str = "wandb";
/// Members in which W&B's clients report the machine and its user. `config` is the clients' own: it has
/// the path of the script, the Git remote and the hardware.
const WANDB_MEMBERS: [&str; 7] = ["commit", "config", "entity", "host", "program", "repo", "user"];
const MLFLOW: &str = "mlflow";
const MLFLOW_USER: &str = "user";
const MLFLOW_TAGS: &str = "tags";
/// Prefixes of the names of MLflow's tags about the script, its Git repository, its user and its machine.
const MLFLOW_TAG_STARTS: [&str; 6] = [
    "mlflow.databricks.",
    "mlflow.docker.",
    "mlflow.git",
    "mlflow.project.",
    "mlflow.source.",
    "mlflow.user",
];
const MLFLOW_DATASETS: &str = "datasets";
/// Where a data set of MLflow was read from: an address, a path, or the script with its user.
const DATASET_MEMBERS: [&str; 2] = ["source", "source_type"];
const TENSORBOARD: &str = "tensorboard";
const TENSORBOARD_PATH: &str = "path";

/// Params without the environment of the script.
pub(super) fn without_environment(params: &[u8]) -> Result<Vec<u8>, Error> {
    let mut map = cbor::decode_map(params).map_err(|_| {
        Error::Message("cannot read the params: the server may be newer than this command".to_owned())
    })?;
    map.remove(ENVIRONMENT);
    change(&mut map, WANDB, |wandb| wandb.retain(|name, _| !WANDB_MEMBERS.contains(&name.as_str())));
    change(&mut map, MLFLOW, clear_mlflow);
    change(&mut map, TENSORBOARD, |tensorboard| drop(tensorboard.remove(TENSORBOARD_PATH)));
    Ok(cbor::encode_map(&map))
}

fn clear_mlflow(mlflow: &mut Map) {
    mlflow.remove(MLFLOW_USER);
    change(mlflow, MLFLOW_TAGS, |tags| {
        tags.retain(|name, _| !MLFLOW_TAG_STARTS.iter().any(|start| name.starts_with(start)));
    });
    change(mlflow, MLFLOW_DATASETS, |datasets| {
        for dataset in datasets.values_mut() {
            if let Value::Map(dataset) = dataset {
                dataset.retain(|name, _| !DATASET_MEMBERS.contains(&name.as_str()));
            }
        }
    });
}

/// Changes a map in a map, and removes the inner map if it is empty then.
fn change(map: &mut Map, name: &str, edit: impl FnOnce(&mut Map)) {
    let Some(Value::Map(inner)) = map.get_mut(name) else { return };
    edit(inner);
    if inner.is_empty() {
        map.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Value {
        Value::Map(names.iter().map(|name| ((*name).to_owned(), Value::Text("x".to_owned()))).collect())
    }

    fn map(members: &[(&str, Value)]) -> Map {
        members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn the_environment_is_left_out_whichever_client_has_logged_it() {
        let mlflow = |own: &[&str], tags: &[&str], dataset: &[&str]| {
            let datasets = Value::Map(map(&[("d#1", texts(dataset))]));
            let mut mlflow = map(&[("tags", texts(tags)), ("datasets", datasets)]);
            mlflow.extend(own.iter().map(|name| ((*name).to_owned(), Value::Null)));
            Value::Map(mlflow)
        };
        let params = map(&[
            ("hparams", texts(&["host", "user"])),
            ("__progress__", Value::Null),
            (ENVIRONMENT, texts(&["env_variables"])),
            (
                "wandb",
                texts(&["id", "project", "host", "user", "program", "repo", "commit", "config", "entity"]),
            ),
            (
                "mlflow",
                mlflow(
                    &["run_id", "user"],
                    &[
                        "team",
                        "mlflow.parentRunId",
                        "mlflow.user",
                        "mlflow.source.name",
                        "mlflow.source.git.commit",
                    ],
                    &["name", "digest", "source", "source_type"],
                ),
            ),
            ("tensorboard", texts(&["path"])),
        ]);
        let left = cbor::decode_map(&without_environment(&cbor::encode_map(&params)).unwrap()).unwrap();
        let expected = map(&[
            ("hparams", texts(&["host", "user"])),
            ("__progress__", Value::Null),
            ("wandb", texts(&["id", "project"])),
            ("mlflow", mlflow(&["run_id"], &["team", "mlflow.parentRunId"], &["name", "digest"])),
        ]);
        assert_eq!(left, expected);
        assert!(without_environment(b"?").is_err());
    }

    #[test]
    fn params_of_other_forms_stay() {
        let params = map(&[("wandb", Value::Null), ("mlflow", Value::Text("user".to_owned()))]);
        let encoded = cbor::encode_map(&params);
        assert_eq!(without_environment(&encoded).unwrap(), encoded);
    }
}
