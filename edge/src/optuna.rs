//! The storage service of Optuna's clients on this port.

use matyan_channels::Channel;
use tower::util::BoxCloneSyncService;

use crate::grpc::TranslatedService;
use crate::metrics::Metrics;
use crate::scope::Scope;
use crate::settings::Protocol;
use crate::transport::Transport;

/// How calls of methods are counted that the service does not have. Their names come from outside, so they have one name
/// here.
const UNKNOWN_METHOD: &str = "unknown method";

/// The storage service, whose calls are made in the scope of the current request.
pub(crate) fn service(backend: Transport, metrics: &Metrics) -> TranslatedService {
    let connect = move || Channel::new(backend.in_scope(Scope::current()));
    let service = matyan_optuna::service(connect);
    TranslatedService {
        prefix: matyan_optuna::PREFIX,
        service: BoxCloneSyncService::new(service),
        unanswered: metrics.unanswered(Protocol::Optuna, UNKNOWN_METHOD),
    }
}
