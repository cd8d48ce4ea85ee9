//! Requests that create something once, however often a client repeats them.

use std::ops::RangeInclusive;

use matyan_model::keys::EntityKind;
use prost::Message;

use super::error::{Error, Result};

/// The request id of a create, or of an edit, and the request itself. They determine the id of the new
/// entity, so that a repeated call finds the entity without a list of past requests.
pub(crate) struct CreateOnce<'a> {
    request_id: &'a str,
    /// The encoded request: a request id that is used twice does not mix up two entities.
    request: Vec<u8>,
}

/// Lengths of a request id. A shorter one might be chosen twice.
const REQUEST_ID_BYTES: RangeInclusive<usize> = 16..=128;

impl<'a> CreateOnce<'a> {
    pub(crate) fn new(request_id: &'a str, request: &impl Message) -> Self {
        Self { request_id, request: request.encode_to_vec() }
    }

    pub(crate) fn entity_id(&self, kind: EntityKind) -> Result<Option<String>> {
        let digest = self.digest(kind.name())?;
        Ok(digest.map(|digest| digest.to_hex().chars().take(32).collect()))
    }

    /// Digest of the request, if it has an id.
    pub(crate) fn digest(&self, what: &str) -> Result<Option<blake3::Hash>> {
        if self.request_id.is_empty() {
            return Ok(None);
        }
        if !REQUEST_ID_BYTES.contains(&self.request_id.len()) {
            let reason = "has fewer than 16 or more than 128 bytes: use a new UUID";
            return Err(Error::field("request_id", reason));
        }
        let mut hasher = blake3::Hasher::new();
        // The request includes its id.
        hasher.update(what.as_bytes()).update(&self.request);
        Ok(Some(hasher.finalize()))
    }
}
