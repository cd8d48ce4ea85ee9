//! The question whether a backend asks its callers for a token. A frontier without access control must not take data
//! from everyone for a backend that does.

use std::{future::pending, time::Duration};

use matyan_proto::access::v1::{ListGrantsRequest, access_service_client::AccessServiceClient};
use tokio::time::sleep;
use tonic::{Code, Request, transport::Channel};

use super::resolver::CALL_TIMEOUT;
use crate::{
    endpoint::{EndpointError, endpoint},
    settings::{AccessMode, Settings},
};

/// Time between two questions to a backend that has not answered yet.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Knowledge of a frontier that asks no one about access control of its backend.
pub(super) struct BackendAccess {
    /// The backend to ask; `None` if the backend asks no one for a token either, or if this process need not
    /// know.
    unknown: Option<AccessServiceClient<Channel>>,
}

impl BackendAccess {
    /// Does not connect.
    pub(super) fn of_process(settings: &Settings) -> Result<Self, EndpointError> {
        let is_open_frontier = settings.role.has_frontier()
            && !settings.role.has_store()
            && settings.access.mode != Some(AccessMode::On);
        let backend = settings.backend.url.as_deref().filter(|_| is_open_frontier);
        let client = |url: &str| {
            let channel = endpoint(url)?.connect_timeout(CALL_TIMEOUT).connect_lazy();
            Ok::<_, EndpointError>(AccessServiceClient::new(channel))
        };
        Ok(Self { unknown: backend.map(client).transpose()? })
    }

    /// Asks the backend once. Returns whether it wants a token; `false` if it does not answer.
    pub(super) async fn wants_token(&mut self) -> bool {
        let Some(backend) = &self.unknown else { return false };
        // A call that `anonymous` can never be granted, and that an open backend refuses in another way.
        let mut request = Request::new(ListGrantsRequest::default());
        request.set_timeout(CALL_TIMEOUT);
        let code = match backend.clone().list_grants(request).await {
            Ok(_) => Code::Ok,
            Err(status) => {
                tracing::debug!(%status, "asked the backend for a list that needs a token");
                status.code()
            }
        };
        match code {
            Code::Unauthenticated => true,
            // Older backends have no access control.
            Code::Ok | Code::InvalidArgument | Code::Unimplemented => {
                self.unknown = None;
                false
            }
            _ => false,
        }
    }

    /// Waits until a backend that did not answer at first answers that it wants a token.
    pub(super) async fn found_closed(&mut self) {
        while self.unknown.is_some() {
            sleep(RETRY_INTERVAL).await;
            if self.wants_token().await {
                return;
            }
        }
        pending().await
    }
}
