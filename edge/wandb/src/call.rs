//! One request of a client: the connections to the services, and where the client has reached this server.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;

use crate::budget::Budget;
use crate::error::WandbError;
use matyan_channels::Channels;

/// The entity of clients that do not name one. This server has no entities: it echoes those that clients send.
pub(crate) const ENTITY: &str = "matyan";

/// The project of clients that do not name one, as in W&B.
pub(crate) const UNCATEGORIZED: &str = "uncategorized";

/// What all handlers of a request need.
#[derive(Clone, Debug)]
pub(crate) struct CallContext {
    pub(crate) channels: Channels,
    /// Scheme, host and project of the request, without a slash at the end: URLs in answers begin with it.
    pub(crate) base_url: String,
    /// Scheme and host of the request, without a slash at the end.
    pub(crate) origin: String,
    /// The name of the caller, for people to see.
    pub(crate) user: String,
    /// `None` if URLs are read with the credentials of their reader, or if no one is asked for any.
    pub(crate) permits: Option<PermitMaker>,
    /// What the rest of the request may use up, if it is one of GraphQL.
    pub(crate) budget: Arc<Budget>,
}

/// Makes the permits of URLs under which clients read files without their credentials.
#[derive(Clone)]
pub struct PermitMaker(Arc<SignFile>);

/// Returns a permit for the names of a project and a run, and the path of a file.
type SignFile = dyn Fn(&str, &str, &str) -> String + Send + Sync;

impl PermitMaker {
    /// The parameter of a URL that contains the permit.
    pub const PARAMETER: &str = "permit";

    /// Returns permits for the names of a project and a run, and the path of a file.
    pub fn new(sign: impl Fn(&str, &str, &str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }

    pub(crate) fn permit(&self, project: &str, run: &str, path: &str) -> String {
        (self.0)(project, run, path)
    }
}

impl fmt::Debug for PermitMaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PermitMaker")
    }
}

/// A call of GraphQL. An error that tells the client to try again, or to use another key, becomes the status of the
/// answer.
#[derive(Debug)]
pub(crate) struct GraphqlCall {
    pub(crate) context: CallContext,
    status: Mutex<Option<StatusCode>>,
}

impl GraphqlCall {
    pub(crate) fn new(context: CallContext) -> Self {
        Self { context, status: Mutex::new(None) }
    }

    pub(crate) fn report(&self, error: &WandbError) {
        if error.concerns_transport() {
            self.status.lock().get_or_insert(error.status);
        }
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        *self.status.lock()
    }
}

/// The entity to show to a client that has sent this one.
pub(crate) fn entity_or_default(entity: Option<&str>) -> &str {
    entity.filter(|entity| !entity.is_empty()).unwrap_or(ENTITY)
}

/// The project to show to a client that has sent this one.
pub(crate) fn project_or_default(project: Option<&str>) -> &str {
    project.filter(|project| !project.is_empty()).unwrap_or(UNCATEGORIZED)
}
