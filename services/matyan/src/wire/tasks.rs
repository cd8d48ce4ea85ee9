//! The tasks of a kind: started here, watched here, stopped together, awaited here.
//! No task of this crate lives outside of one of these.

use matyan_worker::Error as WorkerError;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Error;

/// The part, and how it ended.
type Ended = (&'static str, Result<(), WorkerError>);

#[derive(Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    tasks: JoinSet<Ended>,
}

impl Tasks {
    /// Starts a task that ends when the token that it gets is cancelled, or when it cannot go on.
    pub(crate) fn spawn<F>(&mut self, part: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), WorkerError>> + Send + 'static,
    {
        let task = task(self.stop.clone());
        self.tasks.spawn(async move { (part, task.await) });
    }

    /// The first one that ends without being asked to. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(ended) => error(ended).unwrap_or_else(|part| Error::PartEnded { part }),
            None => std::future::pending().await,
        }
    }

    /// Ends those that do not end by themselves.
    pub(crate) async fn abort(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Asks all to end, and waits until they have. Cancel-safe.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(error) = error(ended) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a part ended badly while stopping"
                );
            }
        }
    }
}

/// What went wrong with a part, or the name of one that ended well.
fn error(ended: Result<Ended, JoinError>) -> Result<Error, &'static str> {
    match ended {
        Ok((part, Ok(()))) => Err(part),
        Ok((part, Err(source))) => Ok(Error::Part { part, source }),
        Err(source) => Ok(Error::Panicked(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_task_that_does_not_end_when_asked_is_ended() {
        let mut tasks = Tasks::default();
        tasks.spawn("a part", |_| std::future::pending());
        tasks.spawn("another", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), tasks.stop()).await.is_err());
        tokio::time::timeout(Duration::from_secs(60), tasks.abort()).await.unwrap();
        assert!(tasks.tasks.is_empty());
    }
}
