//! The first word with the brokers. librdkafka goes on trying for ever, whatever keeps it out; here a refused login is told at once,
//! as no waiting heals it. So is TLS that fails again; once alone it does so wherever a broker is being restarted.

use std::time::{Duration, Instant};

use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{REQUEST_TIMEOUT, error, told::Told};
use crate::{Error, Result};

/// Between two looks at what has gone wrong so far.
const LOOK: Duration = Duration::from_millis(250);

/// Blocks until some broker has answered.
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

/// What has kept it out so far.
#[derive(Default)]
struct Obstacles {
    tls: Option<Error>,
}

impl Obstacles {
    /// Fails if no waiting heals it.
    fn met(&mut self, source: KafkaError) -> Result<()> {
        if source.rdkafka_error_code() == Some(RDKafkaErrorCode::SSL) {
            const REASON: &str = "TLS with the brokers fails: check that their port speaks TLS, and the certificates of both sides";
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
    fn tls_that_fails_once_is_tried_again() {
        let met = |obstacles: &mut Obstacles, code| obstacles.met(KafkaError::Global(code));
        let mut obstacles = Obstacles::default();
        met(&mut obstacles, RDKafkaErrorCode::SSL).unwrap();
        met(&mut obstacles, RDKafkaErrorCode::BrokerTransportFailure).unwrap();
        assert!(!met(&mut obstacles, RDKafkaErrorCode::SSL).unwrap_err().is_temporary());
        met(&mut Obstacles::default(), RDKafkaErrorCode::Authentication).unwrap_err();
    }
}
