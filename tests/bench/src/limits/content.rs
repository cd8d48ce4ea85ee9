//! The content of the project, which grows in three dimensions: runs, steps of one run, and names of metrics. The names
//! are spread over runs that each have their own names.

use matyan_proto::ingest::v1::{
    CreateRun, Event, FinishRun, IngestionBatch, PublishRequest, SeriesDef, event::Kind,
};
use matyan_tests::Server;
use prost::Message as _;

use crate::{
    load,
    scale::{
        points::{self, LONG_RUN},
        runs,
    },
    sweeps::until_applied,
};

/// Names of metrics of one run.
pub(super) const METRICS_A_RUN: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    Runs,
    Steps,
    Metrics,
}

/// How much of everything the project has.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) runs: u64,
    pub(super) steps: u64,
    pub(super) metrics: u64,
}

impl Size {
    pub(super) fn of(&self, dimension: Dimension) -> u64 {
        match dimension {
            Dimension::Runs => self.runs,
            Dimension::Steps => self.steps,
            Dimension::Metrics => self.metrics,
        }
    }

    /// Writes until the project has this much, and waits until it is readable. Names of metrics grow by whole runs.
    pub(super) async fn grow(&mut self, server: &Server, dimension: Dimension, to: u64) {
        match dimension {
            Dimension::Runs => {
                runs::create(server, self.runs, to).await;
                self.runs = to;
            }
            Dimension::Steps => {
                let base = server.ingest.clone();
                points::write(base, LONG_RUN.to_owned(), self.steps..to, 1, false).await;
                self.steps = to;
            }
            Dimension::Metrics => {
                let more = self.metrics / METRICS_A_RUN..to / METRICS_A_RUN;
                self.metrics = more.end * METRICS_A_RUN;
                runs::publish_each(server, more, run_of_metrics).await;
            }
        }
        until_applied(server).await;
    }
}

pub(super) fn metrics_run_id(index: u64) -> String {
    format!("metrics{index:025x}")
}

pub(super) fn metric_name(run: u64, metric: u64) -> String {
    format!("group_{run}/metric_{metric}")
}

/// The context of all metrics.
pub(super) const CONTEXT: &str = r#"{"subset": "train"}"#;

/// A run with a point of each of its metrics.
fn run_of_metrics(index: u64) -> PublishRequest {
    let kinds = [Kind::CreateRun(CreateRun::default()), Kind::FinishRun(FinishRun::default())];
    let definition = |metric| SeriesDef {
        name: metric_name(index, metric),
        context: CONTEXT.to_owned(),
        dtype: "float".to_owned(),
    };
    let batch = IngestionBatch {
        events: kinds.map(|kind| Event { kind: Some(kind), ..Event::default() }).into(),
        series: (0..METRICS_A_RUN).map(definition).collect(),
        ..load::wide_batches(1, METRICS_A_RUN as usize).remove(0)
    };
    PublishRequest {
        run_id: metrics_run_id(index),
        batch: batch.encode_to_vec().into(),
        ..PublishRequest::default()
    }
}
