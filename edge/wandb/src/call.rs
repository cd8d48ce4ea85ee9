//! One request of a client: the connections to the services, and the address under which the client has reached this
//! server.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;

use crate::budget::Budget;
use crate::error::WandbError;
use crate::manifest_cache::ManifestCache;
use crate::owner_hints::OwnerHints;
pub(crate) use matyan_channels::CALLS_AT_A_TIME;
use matyan_channels::{Channels, LargeWork};

/// The entity of clients that do not name one. This server has no entities: it returns the entity that a client sends.
pub(crate) const ENTITY: &str = "matyan";

/// The project of clients that do not name a project, as in W&B.
pub(crate) const UNCATEGORIZED: &str = "uncategorized";

/// The values that all handlers of a request need.
#[derive(Clone, Debug)]
pub(crate) struct CallContext {
    pub(crate) channels: Channels,
    /// Scheme, host and project of the request, without a slash at the end. URLs in answers start with it.
    pub(crate) base_url: String,
    /// Scheme and host of the request, without a slash at the end.
    pub(crate) origin: String,
    /// The name of the caller, for people to read.
    pub(crate) user: String,
    /// `None` if readers of URLs use their own credentials, or if the server asks for no credentials.
    pub(crate) permits: Option<PermitMaker>,
    /// The budget of the request: of GraphQL, or of a search for a file.
    pub(crate) budget: Arc<Budget>,
    /// Shared by all requests of the port, like `manifests` and `owner_hints`.
    pub(crate) large_work: LargeWork,
    pub(crate) manifests: ManifestCache,
    pub(crate) owner_hints: OwnerHints,
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

/// A GraphQL call. An error that tells the client to try again, or to use another key, becomes the status of the
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

/// The entity for the answer to a client that has sent this entity.
pub(crate) fn entity_or_default(entity: Option<&str>) -> &str {
    entity.filter(|entity| !entity.is_empty()).unwrap_or(ENTITY)
}

/// The project for the answer to a client that has sent this project.
pub(crate) fn project_or_default(project: Option<&str>) -> &str {
    project.filter(|project| !project.is_empty()).unwrap_or(UNCATEGORIZED)
}
