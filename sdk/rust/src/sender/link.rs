//! The two directions of a connection that carries the messages of `IngestService.Stream`, whichever
//! protocol transports them.

use matyan_proto::ingest::v1::{StreamRequest, StreamResponse};

/// The reason why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// The spool is closed, and all of it is stored.
    Finished,
    /// The network or the server failed; unacknowledged batches are sent again.
    Lost(String),
    /// The server does not have the project, or refuses the token: a person has to correct the URL, the token,
    /// or the server.
    NeedsCorrection(String),
    /// The server refuses to continue the sequence of this producer.
    Refused(String),
    /// The journal of cuts cannot be written.
    Journal(String),
}

/// The direction to the server.
pub(crate) trait RequestSink {
    /// Sends a message, as soon as there is room for it.
    async fn send(&mut self, request: StreamRequest) -> Result<(), String>;

    /// Asks the server for a sign of life, if the protocol does not do so itself.
    async fn ping(&mut self) -> Result<(), String>;

    /// Ends the connection. The server has acknowledged everything.
    async fn close(&mut self);
}

/// The direction from the server.
pub(crate) trait ResponseStream {
    /// Whether answers to pings are seen here. Otherwise the protocol itself finds out whether the
    /// server is there, and ends the stream.
    const SHOWS_PINGS: bool;

    /// Waits for the next message, or None: another sign of life. May be cancelled.
    async fn next(&mut self) -> Result<Option<StreamResponse>, LinkEnd>;
}
