//! Names of headers, subprotocols and content types of log records, gRPC calls, WebSockets and searches, and of
//! metadata of their errors. Matyan 0.3 ignores all of them.

use bytes::Bytes;

/// The headers of a record, in order.
pub type Headers = Vec<(String, Bytes)>;

/// Name of the project; absent for the default one. In records and calls.
pub const PROJECT: &str = "matyan-project";
/// Identity of the caller; absent if it is unknown. In records and calls.
pub const CALLER: &str = "matyan-caller";
/// The projects that the caller may know of, each after a slash; absent if it may know of all. In calls that every
/// caller may make. In calls that manage a project: this project, or absent if the caller manages all of them.
pub const KNOWN_PROJECTS: &str = "matyan-known-projects";
/// Id of the caller's token; absent if there is none. In calls with an entry in the audit log.
pub const CREDENTIAL: &str = "matyan-credential";
/// The largest role of the caller's token; absent if it has all roles of its principal. In calls that every caller may
/// make.
pub const TOKEN_ROLE: &str = "matyan-token-role";
/// The only project of the caller's token, after a slash; absent if the token is for all projects. In calls that every
/// caller may make.
pub const TOKEN_PROJECT: &str = "matyan-token-project";
/// Names of the caller's rights in the project, separated by commas, and `AWAY` if others cannot be looked up. In calls
/// that write a document, because some of these calls need a second right.
pub const RIGHTS: &str = "matyan-rights";
/// Present if a translator of another tracker's protocol makes the call. In calls that write a document.
pub const TRANSLATED: &str = "matyan-translated";
/// Address of the caller, or of the proxy in front of the server. In calls of known callers with an entry in the audit
/// log, and in calls of programs that wait for a token.
pub const CLIENT_ADDRESS: &str = "matyan-client-address";
/// Log positions that the response must include. In calls.
pub const AFTER: &str = "matyan-after";
/// Id of a request in the logs of all services. In calls.
pub const REQUEST_ID: &str = "x-request-id";
/// The page for which a browser began a sign-in. In the metadata of the error of a sign-in that failed.
pub const NEXT: &str = "next";
/// Warnings about a query: a JSON array of texts. In the answers of searches over HTTP.
pub const QUERY_WARNINGS: &str = "x-query-warnings";
/// Name of the subprotocol of WebSockets whose frames are protobuf instead of JSON.
pub const BINARY_SUBPROTOCOL: &str = "matyan.v1.binary";
/// Version of the server. In the answer to the handshake of a WebSocket.
pub const VERSION: &str = "matyan-version";
/// Trace context in the W3C format. In records and calls.
pub const TRACEPARENT: &str = "traceparent";

/// The content type of a record's value.
pub const CONTENT_TYPE: &str = "content-type";
/// The id of a control event, in hexadecimal digits.
pub const EVENT: &str = "matyan-event";
/// The number of a deleted run.
pub const RUN_NUMBER: &str = "matyan-run-number";
/// The reason why the original of a dead letter was parked.
pub const REASON: &str = "matyan-reason";
/// The position of the original of a dead letter: log, partition, offset, and item.
pub const POSITION: &str = "matyan-position";

/// Id of a producer, in hexadecimal digits. Only envelopes have this header and the next five.
pub const PRODUCER: &str = "matyan-producer";
/// The number of the batch among all batches of its producer.
pub const SEQUENCE: &str = "matyan-sequence";
/// The last batch that the client knows to be durable.
pub const ACKNOWLEDGED: &str = "matyan-acknowledged";
/// The number of the item in its batch.
pub const ITEM: &str = "matyan-item";
/// The number of items in the batch.
pub const ITEMS: &str = "matyan-items";
/// `1` if the producer ends with its connection.
pub const EPHEMERAL: &str = "matyan-ephemeral";

/// A format byte and a `LogEntry`.
pub const LOG_ENTRY_TYPE: &str = "application/x-protobuf;type=matyan.log.v1.LogEntry";
/// A parked batch, without the rest of its log entry.
pub const BATCH_TYPE: &str = "application/x-protobuf;type=matyan.ingest.v1.IngestionBatch";
/// An envelope or a control event.
pub const JSON_TYPE: &str = "application/json";
/// Any other content, and files whose type is not known.
pub const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Returns a header.
pub fn header(name: &str, value: impl Into<Bytes>) -> (String, Bytes) {
    (name.to_owned(), value.into())
}

/// Appends project and caller, unless they are empty.
pub fn push_author(headers: &mut Headers, project: &str, caller: &str) {
    for (name, value) in [(PROJECT, project), (CALLER, caller)] {
        if !value.is_empty() {
            headers.push(header(name, value.to_owned()));
        }
    }
}

/// Returns the value of the first header with this name.
///
/// ```
/// use matyan_wire::headers::{PROJECT, find, header, text};
///
/// let headers = vec![header(PROJECT, "vision")];
/// assert_eq!(find(&headers, PROJECT).unwrap(), "vision");
/// assert_eq!(text(&headers, PROJECT).as_deref(), Some("vision"));
/// ```
pub fn find<'h>(headers: &'h Headers, name: &str) -> Option<&'h Bytes> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Like `find`, but returns text. Bytes that are not UTF-8 are replaced.
pub fn text(headers: &Headers, name: &str) -> Option<String> {
    find(headers, name).map(|value| String::from_utf8_lossy(value).into_owned())
}
