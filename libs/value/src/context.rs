//! Contexts of series: JSON text, its canonical form, and a 32-bit id and a 128-bit digest of that.
//!
//! Clients and the UI identify a context by the id, which two contexts of a run may share. Keys of
//! the store contain the digest. Both are parts of the SHA-256 of the canonical text. An absent
//! context equals the empty object, and has the id 0.

use sha2::{Digest, Sha256};

use crate::{
    json::{self, JsonError, JsonStyle},
    value::{Map, Value},
};

/// The context of a series, such as `{"subset":"val"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    canonical: String,
    hash: [u8; 32],
}

/// Reason why a text is not a valid context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// The text is not JSON.
    #[error("invalid context: {0}")]
    Json(#[from] JsonError),
    /// The text is JSON, but not an object.
    #[error("the context is neither an object nor null")]
    NotAnObject,
}

impl Context {
    /// Reads JSON text in any notation; equal contexts get equal canonical texts.
    ///
    /// ```
    /// # use matyan_value::Context;
    /// let context = Context::parse(r#"{ "subset": "val", "fold": 1 }"#)?;
    /// assert_eq!(context.canonical(), r#"{"fold":1,"subset":"val"}"#);
    /// assert_eq!(Context::parse("")?.id(), 0);
    /// # Ok::<(), matyan_value::ContextError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        match json::parse(text)? {
            Value::Null => Ok(Self::default()),
            Value::Map(map) => Ok(Self::new(&map)),
            _ => Err(ContextError::NotAnObject),
        }
    }

    /// Returns a context with the given members.
    pub fn new(map: &Map) -> Self {
        Self::from_canonical(json::map_text(map, JsonStyle::CANONICAL))
    }

    /// Restores a context from the result of `canonical` or `stored`.
    pub fn from_canonical(canonical: String) -> Self {
        if canonical.is_empty() || canonical == "{}" {
            return Self::default();
        }
        let hash = Sha256::digest(&canonical).into();
        Self { canonical, hash }
    }

    /// Returns the context as ASCII JSON with sorted keys; `{}` if it is empty.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Returns the form in which headers of series store it: the canonical text, or no text if the
    /// context is empty.
    pub fn stored(&self) -> &str {
        if self.hash == [0; 32] { "" } else { &self.canonical }
    }

    /// Returns the id by which clients and the UI identify the context.
    pub fn id(&self) -> u32 {
        u32::from_be_bytes([self.hash[0], self.hash[1], self.hash[2], self.hash[3]])
    }

    /// Returns the digest that is part of keys.
    pub fn digest(&self) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.hash[..16]);
        digest
    }
}

impl Default for Context {
    fn default() -> Self {
        Self { canonical: "{}".to_owned(), hash: [0; 32] }
    }
}

#[cfg(test)]
mod tests;
