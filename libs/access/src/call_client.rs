//! The client that a call counts for.

use std::{fmt, sync::Arc};

/// The client of a call, as an extension of its request. The edge adds it to calls to services of the same process. A client
/// cannot, because extensions do not come over a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallClient(Arc<str>);

impl CallClient {
    /// `name` identifies a principal or a network.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for CallClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
