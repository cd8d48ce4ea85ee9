//! Initial contact with the brokers. librdkafka retries forever, regardless of the error. Here
//! a refused login fails immediately, because waiting does not fix it. TLS must fail twice,
//! because a single failure occurs whenever a broker restarts.

use std::time::{Duration, Instant};

use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{REQUEST_TIMEOUT, error, log_throttle::ThrottledContext};
use crate::{Error, Result};

/// Interval between checks of the errors so far.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Blocks until a broker has responded.
pub(super) fn wait_for_broker(client: &BaseConsumer<ThrottledContext>, topic: &str) -> Result<()> {
    let start = Instant::now();
    let mut errors = ConnectErrors::default();
    loop {
        let Err(failure) = client.fetch_metadata(Some(topic), CHECK_INTERVAL) else { return Ok(()) };
        while let Some(event) = client.poll(Duration::ZERO) {
            event.map_or_else(|source| errors.record(source), |_| Ok(()))?;
        }
        if start.elapsed() > REQUEST_TIMEOUT {
            return Err(errors.tls.unwrap_or_else(|| error::request(failure)));
        }
    }
}

/// Errors seen so far while connecting.
#[derive(Default)]
struct ConnectErrors {
    tls: Option<Error>,
}

impl ConnectErrors {
    /// Records an error; fails if waiting cannot fix it.
    fn record(&mut self, source: KafkaError) -> Result<()> {
        if source.rdkafka_error_code() == Some(RDKafkaErrorCode::SSL) {
            const REASON: &str = "TLS with the brokers fails: check that their port uses TLS, and the certificates of both sides";
            let lasting = Error::Topic { reason: format!("{REASON} ({source})") };
            return self.tls.replace(lasting).map_or(Ok(()), Err);
        }
        match error::request(source) {
            lasting @ Error::Topic { .. } => Err(lasting),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_tls_failure_is_retried() {
        fn record(errors: &mut ConnectErrors, code: RDKafkaErrorCode) -> Result<()> {
            errors.record(KafkaError::Global(code))
        }
        let mut errors = ConnectErrors::default();
        record(&mut errors, RDKafkaErrorCode::SSL).unwrap();
        record(&mut errors, RDKafkaErrorCode::BrokerTransportFailure).unwrap();
        assert!(!record(&mut errors, RDKafkaErrorCode::SSL).unwrap_err().is_temporary());
        record(&mut ConnectErrors::default(), RDKafkaErrorCode::Authentication).unwrap_err();
    }
}
