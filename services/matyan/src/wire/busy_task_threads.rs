//! The threads on which busy tasks of the query port continue: they have the priority of queries.

use std::time::Duration;

use futures::future::BoxFuture;
use matyan_backend::Evaluation;
use matyan_edge::PortTask;

use super::Error;

pub(super) struct BusyTaskThreads(matyan_backend::BusyTaskThreads);

impl BusyTaskThreads {
    pub(super) fn start(evaluation: &Evaluation) -> Result<Self, Error> {
        evaluation.start_busy_task_threads().map(Self).map_err(Error::SetUp)
    }
}

impl matyan_edge::BusyTaskThreads for BusyTaskThreads {
    fn drive(&self, future: BoxFuture<'static, Option<PortTask>>) -> BoxFuture<'static, Option<PortTask>> {
        Box::pin(self.0.clone().drive(future))
    }

    fn thread_time(&self) -> Duration {
        matyan_backend::BusyTaskThreads::thread_time()
    }
}
