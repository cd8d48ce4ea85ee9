//! Where a call comes from: the client that it counts for, and the request that it helps to answer.

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

/// The origin of a call, as an extension of its request. The edge adds it to the calls that it makes to services in its own
/// process. A client cannot set it: extensions are not sent over the network.
#[derive(Clone, Debug, Default)]
pub struct CallOrigin {
    /// The client that the call counts for; `None` if it counts for no client.
    pub client: Option<CallClient>,
    pub answer: RequestAnswer,
}

/// The client that a call counts for.
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

/// The answer to a request, which may make several calls. Clones share their state. A service gives it up if the client
/// does not read it, and others need its memory: the transport has a part of that memory, and does not ask the service for
/// more while it waits for the client.
#[derive(Clone, Debug, Default)]
pub struct RequestAnswer(CancellationToken);

impl RequestAnswer {
    /// Has the rest of the answer dropped. Its client gets an error, once it reads again.
    pub fn give_up(&self) {
        self.0.cancel();
    }

    /// Returns once the answer has been given up.
    pub async fn given_up(&self) {
        self.0.cancelled().await;
    }
}
