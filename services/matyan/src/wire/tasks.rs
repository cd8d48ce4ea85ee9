//! A group of tasks: started, monitored, and stopped together. Every task of this crate belongs
//! to such a group.

use matyan_worker::Error as WorkerError;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::Error;

/// The name of a task, and its result.
type TaskResult = (&'static str, Result<(), WorkerError>);

#[derive(Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    tasks: JoinSet<TaskResult>,
}

impl Tasks {
    /// Starts a task that ends when its token is canceled, or when it fails.
    pub(crate) fn spawn<F>(&mut self, service: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), WorkerError>> + Send + 'static,
    {
        self.spawn_on(&Handle::current(), service, task);
    }

    /// Starts a task like `spawn`, on another runtime.
    pub(crate) fn spawn_on<F>(
        &mut self,
        runtime: &Handle,
        service: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<(), WorkerError>> + Send + 'static,
    {
        let task = task(self.stop.clone());
        self.tasks.spawn_on(async move { (service, task.await) }, runtime);
    }

    /// Waits for the first task that ends without being stopped. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(ended) => error(ended).unwrap_or_else(|service| Error::ServiceEnded { service }),
            None => std::future::pending().await,
        }
    }

    /// Aborts the tasks that are still running.
    pub(crate) async fn abort(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Stops all tasks, and waits until they have ended. Cancel-safe.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(error) = error(ended) {
                tracing::error!(error = &error as &dyn std::error::Error, "task failed while stopping");
            }
        }
    }
}

/// The error of a task, or the name of a task that ended without one.
fn error(ended: Result<TaskResult, JoinError>) -> Result<Error, &'static str> {
    match ended {
        Ok((service, Ok(()))) => Err(service),
        Ok((service, Err(source))) => Ok(Error::Service { service, source }),
        Err(source) => Ok(Error::Panicked(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use tokio::sync::oneshot;

    use super::*;
    use crate::wire::query_runtime;

    #[test]
    fn rule_130_a_task_of_the_query_port_runs_on_a_thread_of_that_port() {
        let runtime = query_runtime().unwrap();
        let mut tasks = Tasks::default();
        let (sender, name) = oneshot::channel();
        tasks.spawn_on(runtime.handle(), "the query side", |_| async move {
            sender.send(thread::current().name().map(str::to_owned)).unwrap();
            Ok(())
        });
        assert_eq!(name.blocking_recv().unwrap().as_deref(), Some("query-port"));
    }

    #[tokio::test]
    async fn a_task_that_ignores_its_token_is_aborted() {
        let mut tasks = Tasks::default();
        tasks.spawn("a service", |_| std::future::pending());
        tasks.spawn("another", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), tasks.stop()).await.is_err());
        tokio::time::timeout(Duration::from_secs(60), tasks.abort()).await.unwrap();
        assert!(tasks.tasks.is_empty());
    }
}
