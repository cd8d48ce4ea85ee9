//! A metric in a request.

use crate::batch::Point;
use crate::error::{MlflowError, Result};
use crate::fields::Fields;
use crate::input_view::{DIGEST_CHARS, NAME_CHARS};
use crate::names::check_length;

/// A metric of a request.
#[derive(Clone, Debug)]
pub(crate) struct LoggedMetric {
    pub(crate) key: String,
    pub(crate) point: Point,
    /// The model that the metric is about.
    pub(crate) model: Option<ModelMetric>,
}

/// The model that a metric is about, and the data set that it was measured with.
#[derive(Clone, Debug)]
pub(crate) struct ModelMetric {
    pub(crate) model_id: String,
    pub(crate) dataset_name: String,
    pub(crate) dataset_digest: String,
}

impl ModelMetric {
    pub(crate) fn of_fields(fields: &Fields) -> Result<Option<Self>> {
        let text = |name| Ok::<_, MlflowError>(fields.text(name)?.unwrap_or_default().to_owned());
        let model_id = text("model_id")?;
        let dataset_name = text("dataset_name")?;
        let dataset_digest = text("dataset_digest")?;
        check_length("dataset_name", &dataset_name, NAME_CHARS)?;
        check_length("dataset_digest", &dataset_digest, DIGEST_CHARS)?;
        Ok((!model_id.is_empty()).then_some(Self { model_id, dataset_name, dataset_digest }))
    }
}
