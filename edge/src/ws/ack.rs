//! Acks of the JSON protocol. The client compares `status` with "ok" and prints `error`.

use std::fmt::Write;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::json::Rejections;

pub(super) const OK: Utf8Bytes = Utf8Bytes::from_static(r#"{"status":"ok","error":null}"#);

/// Maximum length of a reason in an ack: with `MAX_REASONS` of them, the ack stays far below
/// the client's limit of 1 MiB.
const REASON_BYTES: usize = 500;

/// An error ack: the problem with the frame as a whole, or with each item.
pub(super) fn error(frame: Option<&str>, rejections: &Rejections) -> Utf8Bytes {
    let mut text = frame.map(truncated).unwrap_or_default().to_owned();
    for rejection in &rejections.reasons {
        let separator = if text.is_empty() { "" } else { "; " };
        let colon = if rejection.field.is_empty() { "" } else { ": " };
        let reason = truncated(&rejection.reason);
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}item {}: {}{colon}{reason}", rejection.item, rejection.field);
    }
    match rejections.count - rejections.reasons.len() {
        0 => {}
        more => {
            // Writing to a string cannot fail.
            let _ = write!(text, "; and {more} more");
        }
    }
    serde_json::json!({"status": "error", "error": text}).to_string().into()
}

fn truncated(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::super::json::{MAX_REASONS, Rejection};
    use super::*;

    #[test]
    fn an_error_names_items_and_fields() {
        let mut rejections = Rejections::default();
        let mut push = |item, field: &'static str, reason: &'static str| {
            rejections.push(Rejection { item, field: field.into(), reason: reason.into() });
        };
        push(1, "value", "expected a \"number\"");
        push(4, "", "no object");
        assert_eq!(
            error(None, &rejections).as_str(),
            r#"{"status":"error","error":"item 1: value: expected a \"number\"; item 4: no object"}"#
        );
    }

    #[test]
    fn an_error_ack_stays_small() {
        let mut rejections = Rejections::default();
        let reason = "\u{1}é".repeat(10_000);
        for item in 0..1_000_000 {
            let reason = if item < MAX_REASONS as u32 { reason.clone() } else { String::new() };
            rejections.push(Rejection { item, field: "value".into(), reason: reason.into() });
        }
        let ack = error(None, &rejections);
        assert!(ack.len() < 1 << 19, "{}", ack.len());
        assert!(ack.contains("; and 999900 more"));
    }
}
