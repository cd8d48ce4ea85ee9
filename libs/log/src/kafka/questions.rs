//! Questions to the brokers that no record depends on. They are few, so that their client is not polled and nobody hears what it
//! tells of itself: it is made anew when it has answered none for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, consumer::BaseConsumer, error::KafkaError};

use super::{error, told::Told};
use crate::Result;

/// Beyond it another client may do better.
const SILENT_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Questions {
    config: ClientConfig,
    silent_wait: Duration,
    asked: Mutex<Asked>,
}

struct Asked {
    client: Arc<BaseConsumer<Told>>,
    /// Since when it has answered nothing.
    silent_since: Option<Instant>,
}

impl Questions {
    /// Asks a client made with these settings, to which some broker has answered.
    pub(super) fn new(config: ClientConfig, client: BaseConsumer<Told>) -> Self {
        let asked = Asked { client: Arc::new(client), silent_since: None };
        Self { config, silent_wait: SILENT_WAIT, asked: Mutex::new(asked) }
    }

    /// Blocks.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&BaseConsumer<Told>) -> Result<T, KafkaError>,
    ) -> Result<T> {
        let client = self.asked().client.clone();
        let answer = question(&client).map_err(error::request);
        let mut asked = self.asked();
        if !answer.as_ref().is_err_and(|failure| failure.is_temporary()) {
            asked.silent_since = None;
        } else if asked.silent_since.get_or_insert_with(Instant::now).elapsed() >= self.silent_wait {
            tracing::warn!("no question was answered for a while, and others are asked by a new client");
            let client = Arc::new(self.config.create_with_context(Told).map_err(error::client)?);
            *asked = Asked { client, silent_since: None };
        }
        answer
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().expect("nobody panics while holding the client")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_stays_silent_is_made_anew() {
        let config = ClientConfig::new();
        let mut questions = Questions::new(config.clone(), config.create_with_context(Told).unwrap());
        let first = questions.asked().client.clone();
        let is_first = |questions: &Questions| Arc::ptr_eq(&questions.asked().client, &first);
        let fail = |questions: &Questions| {
            let failure = KafkaError::MetadataFetch(rdkafka::types::RDKafkaErrorCode::OperationTimedOut);
            questions.ask(|_| Err::<(), _>(failure)).unwrap_err();
        };
        fail(&questions);
        assert!(is_first(&questions), "it may answer the next");
        questions.silent_wait = Duration::ZERO;
        questions.ask(|_| Ok(())).unwrap();
        assert!(is_first(&questions));
        fail(&questions);
        assert!(!is_first(&questions));
    }
}
