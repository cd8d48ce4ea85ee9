//! Buckets that are the same for several series.

use matyan_model::series::{StepRange, exponent_for};
use matyan_proto::series::v1::RunSelection;

use super::{
    run_reader::{RunReader, batch_size},
    select::{self, SelectedSeries},
};
use crate::server::{call::Call, deps::Deps, error::Result};

/// Aligned buckets of 2^exponent steps, numbered from one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) exponent: u32,
    /// Bucket 0 starts at step `first` × 2^exponent.
    first: i64,
    /// The steps whose buckets have numbers. Series that grow get others before they are read.
    pub(super) steps: StepRange,
}

impl Grid {
    /// The buckets from the bucket of the first step on.
    pub(super) fn of_steps(steps: StepRange, exponent: u32) -> Self {
        Self { exponent, first: steps.first >> exponent, steps }
    }

    /// The finest grid on which the requested steps of all series are within `pixels` buckets; `None`
    /// if no series has points.
    pub(super) async fn over(
        deps: &Deps,
        call: &Call,
        runs: &[&RunSelection],
        steps: StepRange,
        pixels: usize,
    ) -> Result<Option<Self>> {
        let mut span: Option<StepRange> = None;
        for selection in runs {
            let Some(found) = deps.try_find_run(call, &selection.run_id).await? else { continue };
            let mut reader = RunReader::new(deps, call, found);
            let selected = select::series(&mut reader, selection, steps).await?;
            for selected in selected.chunks(batch_size(1)) {
                let spans = loop {
                    match spans(&mut reader, selected).await {
                        Ok(spans) => break spans,
                        Err(error) => reader.renew(error)?,
                    }
                };
                reader.mark_used();
                for next in spans {
                    let all = span.unwrap_or(next);
                    span = Some(StepRange::new(all.first.min(next.first), all.last.max(next.last)));
                }
            }
        }
        Ok(span.map(|span| Self::of_steps(span, exponent_for(&span, pixels))))
    }

    /// Steps per bucket.
    pub(super) fn width(&self) -> u64 {
        1 << self.exponent
    }

    /// First step of bucket 0.
    pub(super) fn origin(&self) -> i64 {
        self.first << self.exponent
    }

    /// Number of the bucket that contains one of the steps.
    pub(super) fn number(&self, step: i64) -> u32 {
        let number = (step >> self.exponent).wrapping_sub(self.first) as u64;
        u32::try_from(number).expect("the numbers of buckets of a chart fit in 32 bits")
    }
}

/// The requested steps of each series that has any.
async fn spans(reader: &mut RunReader<'_>, selected: &[SelectedSeries]) -> Result<Vec<StepRange>> {
    let (snapshot, opened) = reader.run().await?;
    let numbers: Vec<_> = selected.iter().map(|series| series.number).collect();
    let views = opened.views(snapshot, &numbers).await?;
    let spans = selected.iter().zip(views).filter_map(|(series, view)| {
        Some(series.steps.intersection(&view.span()?)).filter(|steps| !steps.is_empty())
    });
    Ok(spans.collect())
}
