//! Reads that include earlier writes to the log.

use matyan_proto::common::v1::LogPosition;
use matyan_proto::runs::v1::GetRequest;
use matyan_wire::headers::AFTER;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status};

use crate::Channels;

/// A request whose answer includes everything that was published for a run up to a position.
pub fn after<T>(message: T, run_id: &str, position: LogPosition) -> Request<T> {
    let mut request = Request::new(message);
    let LogPosition { log, partition, offset } = position;
    let mut after = format!("{log}/{partition}/{offset}");
    // A header carries visible ASCII only, and the id of a run may have other characters.
    if run_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        after = format!("{after}/{run_id}");
    }
    if let Ok(after) = after.parse::<AsciiMetadataValue>() {
        request.metadata_mut().insert(AFTER, after);
    }
    request
}

/// Waits until everything is applied that was published for a run up to a position. If that takes too long, the error has
/// the product's code `NotYetApplied`.
pub async fn wait_applied(channels: &Channels, run_id: &str, position: LogPosition) -> Result<(), Status> {
    let request = GetRequest { run_id: run_id.to_owned(), parts: None };
    match channels.runs().get(after(request, run_id, position)).await {
        Ok(_) => Ok(()),
        // The run was deleted during the wait.
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_without_a_run_is_sent_if_a_header_cannot_carry_the_run() {
        let sent = |run_id: &str| {
            let position = LogPosition { log: 1, partition: 2, offset: 3 };
            let request = after((), run_id, position);
            request.metadata().get(AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        assert_eq!(sent("k3x:project").as_deref(), Some("1/2/3/k3x:project"));
        assert_eq!(sent("größe").as_deref(), Some("1/2/3"));
    }
}
