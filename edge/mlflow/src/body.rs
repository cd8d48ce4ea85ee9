//! The bytes of a file while they are passed on.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use tower::BoxError;

/// A body that arrives in pieces.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
