//! Initial contact with the brokers. librdkafka retries forever, whatever the obstacle. Here a
//! refused login fails immediately, because waiting does not fix it. TLS must fail twice,
//! because a single failure occurs whenever a broker restarts.

use std::time::{Duration, Instant};

use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{REQUEST_TIMEOUT, error, told::Told};
use crate::{Error, Result};

/// Interval between checks of the errors so far.
const LOOK: Duration = Duration::from_millis(250);

/// Blocks until a broker has answered.
pub(super) fn reach(client: &BaseConsumer<Told>, topic: &str) -> Result<()> {
    let start = Instant::now();
    let mut obstacles = Obstacles::default();
    loop {
        let Err(failure) = client.fetch_metadata(Some(topic), LOOK) else { return Ok(()) };
        while let Some(told) = client.poll(Duration::ZERO) {
            told.map_or_else(|source| obstacles.met(source), |_| Ok(()))?;
        }
        if start.elapsed() > REQUEST_TIMEOUT {
            return Err(obstacles.tls.unwrap_or_else(|| error::request(failure)));
        }
    }
}

/// The obstacles met so far.
#[derive(Default)]
struct Obstacles {
    tls: Option<Error>,
}

impl Obstacles {
    /// Records an error; fails if waiting does not fix it.
    fn met(&mut self, source: KafkaError) -> Result<()> {
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
        let met = |obstacles: &mut Obstacles, code| obstacles.met(KafkaError::Global(code));
        let mut obstacles = Obstacles::default();
        met(&mut obstacles, RDKafkaErrorCode::SSL).unwrap();
        met(&mut obstacles, RDKafkaErrorCode::BrokerTransportFailure).unwrap();
        assert!(!met(&mut obstacles, RDKafkaErrorCode::SSL).unwrap_err().is_temporary());
        met(&mut Obstacles::default(), RDKafkaErrorCode::Authentication).unwrap_err();
    }
}
