//! The values that a request names to sort or group runs by, and the columns that hold them.

use matyan_proto::{
    common::v1::SeriesKey,
    limits,
    runs::v1::ParamPath,
    search::v1::{MetricValue, SortField},
};

use crate::server::{
    convert,
    error::{Error, Result},
};

/// A value of runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RunValue {
    Created,
    Duration,
    Name,
    RunId,
    Experiment,
    Tags,
    Description,
    Ended,
    Outcome,
    /// The order in which the server first saw the runs.
    Number,
    Param(Vec<String>),
    Metric(MetricColumn),
}

/// A value of a metric series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MetricColumn {
    pub(super) name: String,
    pub(super) digest: [u8; 16],
    pub(super) value: MetricValue,
}

/// A key of a sort order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SortKey {
    pub(crate) value: RunValue,
    pub(crate) descending: bool,
}

/// A value as a request names it.
pub(crate) enum ValueSource {
    Field(i32),
    Param(ParamPath),
    Metric(SeriesKey, i32),
}

impl RunValue {
    /// `field` is the field of the request.
    pub(crate) fn parse(field: &'static str, source: Option<ValueSource>) -> Result<Self> {
        match source {
            None => Err(Error::field(field, "contains an entry without a value: set one of its fields")),
            Some(ValueSource::Field(named)) => match SortField::try_from(named) {
                Ok(SortField::Created) => Ok(Self::Created),
                Ok(SortField::Duration) => Ok(Self::Duration),
                Ok(SortField::Name) => Ok(Self::Name),
                Ok(SortField::RunId) => Ok(Self::RunId),
                Ok(SortField::Experiment) => Ok(Self::Experiment),
                Ok(SortField::Description) => Ok(Self::Description),
                Ok(SortField::Ended) => Ok(Self::Ended),
                Ok(SortField::Outcome) => Ok(Self::Outcome),
                Ok(SortField::Tags) => Ok(Self::Tags),
                Ok(SortField::Unspecified) | Err(_) => Err(Error::field(field, "contains an unknown field")),
            },
            Some(ValueSource::Param(path)) if path.segments.is_empty() => {
                Err(Error::field(field, "contains an empty param path: give at least one key"))
            }
            Some(ValueSource::Param(path)) => Ok(Self::Param(path.segments)),
            Some(ValueSource::Metric(key, value)) => {
                convert::check_limit("name", key.name.len(), limits::NAME_BYTES)?;
                let value = match MetricValue::try_from(value) {
                    Ok(MetricValue::Unspecified) => MetricValue::Last,
                    Ok(value) => value,
                    Err(_) => return Err(Error::field(field, "contains an unknown value of a metric")),
                };
                let digest = convert::context(&key)?.digest();
                Ok(Self::Metric(MetricColumn { name: key.name, digest, value }))
            }
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ColumnKey {
    Created,
    /// When the run ended.
    Ended,
    Active,
    /// The way in which the run ended, or that it is active.
    Outcome,
    Name,
    Description,
    /// The name of the experiment. Experiments are renamed without a change of their runs, so a
    /// digest of all names distinguishes one column from the next.
    Experiment {
        names: u64,
    },
    /// The names of the tags.
    Tags {
        names: u64,
    },
    Param(Vec<String>),
    Metric(MetricColumn),
}

/// A value of runs with the inputs of its columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TableValue {
    RunId,
    Number,
    /// Active runs count until now.
    Duration {
        now_us: i64,
    },
    Column(ColumnKey),
}

impl TableValue {
    /// `names` is the digest of the names of experiments, and of tags if a value depends on them.
    pub(super) fn new(value: &RunValue, now_us: i64, names: u64) -> Self {
        Self::Column(match value {
            RunValue::RunId => return Self::RunId,
            RunValue::Number => return Self::Number,
            RunValue::Duration => return Self::Duration { now_us },
            RunValue::Created => ColumnKey::Created,
            RunValue::Name => ColumnKey::Name,
            RunValue::Description => ColumnKey::Description,
            RunValue::Ended => ColumnKey::Ended,
            RunValue::Outcome => ColumnKey::Outcome,
            RunValue::Experiment => ColumnKey::Experiment { names },
            RunValue::Tags => ColumnKey::Tags { names },
            RunValue::Param(path) => ColumnKey::Param(path.clone()),
            RunValue::Metric(metric) => ColumnKey::Metric(metric.clone()),
        })
    }

    pub(super) fn columns(&self) -> Vec<ColumnKey> {
        match self {
            Self::RunId | Self::Number => Vec::new(),
            Self::Duration { .. } => DURATION_COLUMNS.into(),
            Self::Column(key) => vec![key.clone()],
        }
    }

    pub(super) fn uses(&self, key: &ColumnKey) -> bool {
        match self {
            Self::RunId | Self::Number => false,
            Self::Duration { .. } => DURATION_COLUMNS.contains(key),
            Self::Column(own) => own == key,
        }
    }
}

const DURATION_COLUMNS: [ColumnKey; 3] = [ColumnKey::Created, ColumnKey::Ended, ColumnKey::Active];
