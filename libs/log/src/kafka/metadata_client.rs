//! Metadata requests, which no record depends on. They are infrequent, so their client is not
//! polled and its statistics are not read. Instead the client is replaced if all its requests
//! have failed for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

use super::{REQUEST_TIMEOUT, error, log_throttle::ThrottledContext};
use crate::Result;

/// Time without a response after which the client is replaced.
const SILENT_WAIT: Duration = Duration::from_secs(30);

pub(super) struct MetadataClient {
    config: ClientConfig,
    silent_wait: Duration,
    current: Mutex<CurrentClient>,
}

struct CurrentClient {
    client: Arc<BaseConsumer<ThrottledContext>>,
    /// Start of the current period without responses.
    silent_since: Option<Instant>,
}

impl MetadataClient {
    /// `client` must already have received a response from a broker; `config` is used to
    /// replace it.
    pub(super) fn new(config: ClientConfig, client: BaseConsumer<ThrottledContext>) -> Self {
        let current = CurrentClient { client: Arc::new(client), silent_since: None };
        Self { config, silent_wait: SILENT_WAIT, current: Mutex::new(current) }
    }

    /// Sends a request to the leaders of a topic. They are looked up first, because this client would send
    /// it to a broker that was lost, or wait for it, until its list of leaders is minutes old. Blocks.
    pub(super) fn request_to_leaders<T>(
        &self,
        topic: &str,
        send: impl FnOnce(&BaseConsumer<ThrottledContext>) -> Result<T, KafkaError>,
    ) -> Result<T> {
        self.request(|client| {
            client.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
            send(client)
        })
    }

    /// Sends a request. Blocks.
    pub(super) fn request<T>(
        &self,
        send: impl FnOnce(&BaseConsumer<ThrottledContext>) -> Result<T, KafkaError>,
    ) -> Result<T> {
        // Cloned, so that the lock is not held during the request.
        let client = self.current().client.clone();
        let answer = send(&client).map_err(error::request);
        let mut current = self.current();
        if !answer.as_ref().is_err_and(|failure| failure.is_temporary()) {
            current.silent_since = None;
        } else if current.silent_since.get_or_insert_with(Instant::now).elapsed() >= self.silent_wait {
            tracing::warn!("metadata requests to Kafka keep failing; replacing the client");
            let client = Arc::new(self.config.create_with_context(ThrottledContext).map_err(error::client)?);
            *current = CurrentClient { client, silent_since: None };
        }
        answer
    }

    fn current(&self) -> MutexGuard<'_, CurrentClient> {
        self.current.lock().expect("no thread panics while holding the client")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_answers_is_replaced() {
        let config = ClientConfig::new();
        let mut client =
            MetadataClient::new(config.clone(), config.create_with_context(ThrottledContext).unwrap());
        let first = client.current().client.clone();
        fn fail(client: &MetadataClient) {
            let failure = KafkaError::MetadataFetch(rdkafka::types::RDKafkaErrorCode::OperationTimedOut);
            client.request(|_| Err::<(), _>(failure)).unwrap_err();
        }
        fail(&client);
        assert!(Arc::ptr_eq(&client.current().client, &first), "the client may answer the next request");
        client.silent_wait = Duration::ZERO;
        client.request(|_| Ok(())).unwrap();
        assert!(Arc::ptr_eq(&client.current().client, &first));
        fail(&client);
        assert!(!Arc::ptr_eq(&client.current().client, &first));
    }
}
