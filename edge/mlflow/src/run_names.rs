//! The places of the parts of an MLflow run in the params of a run. The importer of MLflow uses the same places.

use matyan_proto::runs::v1::ParamPath;
use matyan_value::{Map, Value};

/// Params of the run.
pub(crate) const PARAMS: &str = "hparams";
/// All other data that only MLflow knows.
pub(crate) const MLFLOW: &str = "mlflow";
/// Tags, below `MLFLOW`.
pub(crate) const TAGS: &str = "tags";
/// Name of the user, below `MLFLOW`.
pub(crate) const USER: &str = "user";
/// Data sets, below `MLFLOW`.
pub(crate) const DATASETS: &str = "datasets";
/// Logged models that the run has read, below `MLFLOW`.
pub(crate) const INPUT_MODELS: &str = "input_models";
/// Logged models that the run has made, below `MLFLOW`.
pub(crate) const OUTPUT_MODELS: &str = "output_models";
/// Marks a run that only holds the files of a logged model, below `MLFLOW`.
pub(crate) const HOLDS_MODEL: &str = "holds_model";

/// Context of the series for the replaced points of a metric.
pub(crate) const REPEATED_CONTEXT: &str = r#"{"repeated":true}"#;

/// The tag that is also the name of the run.
pub(crate) const NAME_TAG: &str = "mlflow.runName";
/// The tag that is also the description of the run or the experiment.
pub(crate) const NOTE_TAG: &str = "mlflow.note.content";
/// The tag with the name of the user.
pub(crate) const USER_TAG: &str = "mlflow.user";

/// A path as messages contain it.
pub(crate) fn path<const N: usize>(segments: [&str; N]) -> ParamPath {
    ParamPath { segments: segments.map(str::to_owned).into() }
}

/// A message that sets the value at a path, and nothing else. A map of one entry would be merged instead of stored.
pub(crate) fn at_path<const N: usize>(path: [&str; N], value: Value) -> Map {
    let mut value = value;
    for (at, segment) in path.into_iter().enumerate().rev() {
        let map = Map::from([(segment.to_owned(), value)]);
        if at == 0 {
            return map;
        }
        value = Value::Map(map);
    }
    Map::new()
}

/// The value at a path.
pub(crate) fn find<'a>(params: &'a Map, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(params.get(*first)?, |value, key| value.as_map()?.get(*key))
}
