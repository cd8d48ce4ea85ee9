//! The columns that exports of points and of objects start with: the series of a row, and its step, epoch and
//! time.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Int64Array,
    builder::StringDictionaryBuilder,
    types::{Int32Type, TimestampMicrosecondType},
};
use arrow_schema::{DataType, Field, TimeUnit};
use matyan_model::series::ABSENT;
use matyan_proto::runs::v1::Run;

use super::file::RowsError;

/// A type for texts that repeat.
fn repeated_text() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A time in UTC with microseconds.
pub(super) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A context as JSON: the store has no text for an empty one.
pub(super) fn context_json(stored: &str) -> &str {
    if stored.is_empty() { "{}" } else { stored }
}

/// The run that is being read.
#[derive(Default)]
pub(super) struct CurrentRun {
    id: Arc<str>,
    experiment: Option<Arc<str>>,
}

impl CurrentRun {
    /// Reads the run of a message. Returns whether the message is the first one of its run, which alone has the
    /// properties of the run.
    pub(super) fn update(&mut self, run: Option<Run>) -> bool {
        let run = run.unwrap_or_default();
        let Some(props) = run.props else { return false };
        self.id = run.run_id.into();
        self.experiment = props.experiment.map(|experiment| experiment.name.into());
        true
    }

    /// The texts of a series of the run.
    pub(super) fn series(&self, name: String, context: &str) -> Arc<SeriesTexts> {
        Arc::new(SeriesTexts {
            run: self.id.clone(),
            experiment: self.experiment.clone(),
            name,
            context: context_json(context).to_owned(),
        })
    }
}

/// The texts of all rows of a series.
pub(super) struct SeriesTexts {
    run: Arc<str>,
    experiment: Option<Arc<str>>,
    name: String,
    context: String,
}

impl SeriesTexts {
    pub(super) fn bytes(&self) -> usize {
        let experiment = self.experiment.as_ref().map_or(0, |experiment| experiment.len());
        self.run.len() + experiment + self.name.len() + self.context.len()
    }
}

/// A column of integers that may be absent.
#[derive(Default)]
pub(super) struct OptionalColumn {
    /// `ABSENT` stands for an absent value.
    values: Vec<i64>,
    absent: usize,
}

impl OptionalColumn {
    pub(super) fn push(&mut self, value: Option<i64>) {
        self.extend_from_slice(&[value.unwrap_or(ABSENT)]);
    }

    /// Appends values, any of which may be `ABSENT`.
    pub(super) fn extend_from_slice(&mut self, values: &[i64]) {
        self.absent += values.iter().filter(|value| **value == ABSENT).count();
        self.values.extend_from_slice(values);
    }

    /// Usually, all values are present, or none is. In both cases, they are not read again.
    fn finish(self) -> Int64Array {
        let Self { values, absent } = self;
        if absent == 0 {
            Int64Array::from(values)
        } else if absent == values.len() {
            Int64Array::new_null(absent)
        } else {
            values.iter().map(|value| (*value != ABSENT).then_some(*value)).collect()
        }
    }
}

/// The first columns of a batch.
#[derive(Default)]
pub(super) struct RowColumns {
    run: StringDictionaryBuilder<Int32Type>,
    experiment: StringDictionaryBuilder<Int32Type>,
    name: StringDictionaryBuilder<Int32Type>,
    context: StringDictionaryBuilder<Int32Type>,
    pub(super) steps: Vec<i64>,
    pub(super) epochs: OptionalColumn,
    pub(super) times_us: OptionalColumn,
}

impl RowColumns {
    pub(super) fn fields() -> Vec<Field> {
        vec![
            Field::new("run", repeated_text(), false),
            Field::new("experiment", repeated_text(), true),
            Field::new("name", repeated_text(), false),
            Field::new("context", repeated_text(), false),
            Field::new("step", DataType::Int64, false),
            Field::new("epoch", DataType::Int64, true),
            Field::new("time", time(), true),
        ]
    }

    /// Appends the texts of a series for this many rows.
    pub(super) fn append_series(&mut self, series: &SeriesTexts, rows: usize) -> Result<(), RowsError> {
        let SeriesTexts { run, experiment, name, context } = series;
        self.run.append_n(run, rows)?;
        match experiment {
            Some(experiment) => {
                self.experiment.append_n(experiment, rows)?;
            }
            None => self.experiment.append_nulls(rows),
        }
        self.name.append_n(name, rows)?;
        self.context.append_n(context, rows)?;
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<ArrayRef> {
        let Self { mut run, mut experiment, mut name, mut context, steps, epochs, times_us } = self;
        vec![
            Arc::new(run.finish()),
            Arc::new(experiment.finish()),
            Arc::new(name.finish()),
            Arc::new(context.finish()),
            Arc::new(Int64Array::from(steps)),
            Arc::new(epochs.finish()),
            Arc::new(times_us.finish().reinterpret_cast::<TimestampMicrosecondType>().with_timezone("UTC")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_columns_have_what_was_added() {
        for values in [vec![], vec![1, 2], vec![ABSENT, ABSENT], vec![ABSENT, 0, i64::MAX, ABSENT]] {
            let mut together = OptionalColumn::default();
            together.extend_from_slice(&values);
            let mut alone = OptionalColumn::default();
            let expected: Vec<_> = values.iter().map(|value| (*value != ABSENT).then_some(*value)).collect();
            for value in &expected {
                alone.push(*value);
            }
            for column in [together, alone] {
                assert_eq!(column.finish().iter().collect::<Vec<_>>(), expected);
            }
        }
    }
}
