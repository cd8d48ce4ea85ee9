//! Records of the dead-letter topic: copies of items that could not be applied. The key is the run
//! id, the value is the item, and the headers contain its origin and the reason.

use bytes::Bytes;

use crate::headers::{CONTENT_TYPE, Headers, POSITION, PROJECT, REASON, TRACEPARENT, header};

/// Position of an item in the ingestion log: log, partition, offset, and number of the item in its
/// record. The ids that `matyan parked ls` prints start with it.
pub type ItemPosition = (u32, u32, u64, u32);

/// Returns the headers of a copy. An empty project means the default one.
///
/// ```
/// use matyan_wire::{dead_letter, headers};
///
/// let written = dead_letter::headers("`value` is not a number", headers::JSON_TYPE, (1, 2, 3, 4), "", None);
/// assert_eq!(headers::text(&written, headers::POSITION).as_deref(), Some("1/2/3/4"));
/// assert_eq!(headers::find(&written, headers::PROJECT), None);
/// ```
pub fn headers(
    reason: &str,
    content_type: &'static str,
    (log, partition, offset, item): ItemPosition,
    project: &str,
    trace: Option<Bytes>,
) -> Headers {
    let mut headers = vec![
        header(REASON, reason.to_owned()),
        header(CONTENT_TYPE, content_type),
        header(POSITION, format!("{log}/{partition}/{offset}/{item}")),
    ];
    if !project.is_empty() {
        headers.push(header(PROJECT, project.to_owned()));
    }
    headers.extend(trace.map(|trace| header(TRACEPARENT, trace)));
    headers
}
