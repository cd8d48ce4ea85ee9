//! Requests for metadata, which no record depends on. They are infrequent, so their client is
//! not polled and its statistics are not read. Instead the client is replaced if all its
//! requests have failed for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, consumer::BaseConsumer, error::KafkaError};

use super::{error, told::Told};
use crate::Result;

/// Time without an answer after which the client is replaced.
const SILENT_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Questions {
    config: ClientConfig,
    silent_wait: Duration,
    asked: Mutex<Asked>,
}

struct Asked {
    client: Arc<BaseConsumer<Told>>,
    /// Start of the current period without answers.
    silent_since: Option<Instant>,
}

impl Questions {
    /// `client` must already have received an answer from a broker; `config` is used to
    /// replace it.
    pub(super) fn new(config: ClientConfig, client: BaseConsumer<Told>) -> Self {
        let asked = Asked { client: Arc::new(client), silent_since: None };
        Self { config, silent_wait: SILENT_WAIT, asked: Mutex::new(asked) }
    }

    /// Sends a request. Blocks.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&BaseConsumer<Told>) -> Result<T, KafkaError>,
    ) -> Result<T> {
        // Cloned, so that the lock is not held during the request.
        let client = self.asked().client.clone();
        let answer = question(&client).map_err(error::request);
        let mut asked = self.asked();
        if !answer.as_ref().is_err_and(|failure| failure.is_temporary()) {
            asked.silent_since = None;
        } else if asked.silent_since.get_or_insert_with(Instant::now).elapsed() >= self.silent_wait {
            tracing::warn!("metadata requests to Kafka keep failing; replacing the client");
            let client = Arc::new(self.config.create_with_context(Told).map_err(error::client)?);
            *asked = Asked { client, silent_since: None };
        }
        answer
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().expect("no thread panics while holding the client")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_answers_is_replaced() {
        let config = ClientConfig::new();
        let mut questions = Questions::new(config.clone(), config.create_with_context(Told).unwrap());
        let first = questions.asked().client.clone();
        let is_first = |questions: &Questions| Arc::ptr_eq(&questions.asked().client, &first);
        let fail = |questions: &Questions| {
            let failure = KafkaError::MetadataFetch(rdkafka::types::RDKafkaErrorCode::OperationTimedOut);
            questions.ask(|_| Err::<(), _>(failure)).unwrap_err();
        };
        fail(&questions);
        assert!(is_first(&questions), "the client may answer the next request");
        questions.silent_wait = Duration::ZERO;
        questions.ask(|_| Ok(())).unwrap();
        assert!(is_first(&questions));
        fail(&questions);
        assert!(!is_first(&questions));
    }
}
