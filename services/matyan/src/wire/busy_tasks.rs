//! Tasks of the query port that keep a processor busy: they continue on threads with the priority of queries.

use futures::future::BoxFuture;
use matyan_backend::{BusyThreads, Evaluation};
use matyan_edge::{BusyTaskThreads, PortTask};

use super::Error;

pub(super) struct BusyTasks(BusyThreads);

impl BusyTasks {
    pub(super) fn start(evaluation: &Evaluation) -> Result<Self, Error> {
        evaluation.start_busy_threads().map(Self).map_err(Error::SetUp)
    }
}

impl BusyTaskThreads for BusyTasks {
    fn drive(&self, future: BoxFuture<'static, Option<PortTask>>) -> BoxFuture<'static, Option<PortTask>> {
        Box::pin(self.0.clone().drive(future))
    }
}
