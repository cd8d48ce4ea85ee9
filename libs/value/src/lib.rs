//! Free-form values, series contexts, and dates: one reader and one writer of each format that
//! clients send or receive.
//!
//! Every crate that touches such a format uses this one, from the edge to the archives, so that a
//! value has one meaning everywhere. It is pure: it computes on bytes that the caller holds, and
//! knows nothing of the system but its limits.
//!
//! ```
//! use matyan_value::{cbor, json::{self, JsonStyle}};
//!
//! let value = json::parse(r#"{"lr": 1e-3, "seed": 12345678901234567890123, "best": NaN}"#)?;
//! let stored = cbor::encode(&value);
//! assert_eq!(cbor::decode(&stored), Ok(value));
//! assert_eq!(
//!     json::cbor_text(&stored, JsonStyle::STRICT).as_deref(),
//!     Ok(r#"{"best":null,"lr":0.001,"seed":12345678901234567890123}"#),
//! );
//! # Ok::<(), json::JsonError>(())
//! ```

mod bigint;
mod value;

pub mod cbor;
pub mod json;

mod context;
pub mod datetime;

pub use bigint::{BigInteger, MAX_DIGITS};
pub use context::{Context, ContextError};
pub use value::{Map, Value};

/// Deepest nesting of maps and lists in a value. Readers recurse, so every reader enforces it.
pub const MAX_DEPTH: usize = matyan_proto::limits::VALUE_DEPTH;
