//! Free-form values, series contexts, types of objects, names of runs, queries in words, and dates: one reader and one
//! writer of each format that clients send or receive.
//!
//! Every crate that handles such a format uses this crate, from the edge to the archives, so that a
//! value means the same everywhere. The crate performs no I/O, and depends on nothing of the system
//! except its limits.
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
mod object_type;
pub mod query_words;
mod run_name;

pub use bigint::{BigInteger, MAX_DIGITS};
pub use context::{Context, ContextError};
pub use object_type::{OBJECT_TYPES, singular_dtype};
pub use run_name::spoken_name;
pub use value::{Map, Value};

/// Maximum nesting of maps and lists in a value. Enforced by every reader, because readers recurse.
pub const MAX_DEPTH: usize = matyan_proto::limits::VALUE_DEPTH;
