//! The storage service of Optuna's clients on this port.

use matyan_channels::Channel;
use tower::util::BoxCloneSyncService;

use crate::grpc::TranslatedService;
use crate::scope::Scope;
use crate::transport::Transport;

/// The storage service, whose calls are made in the scope of the current request.
pub(crate) fn service(backend: Transport) -> TranslatedService {
    let connect = move || Channel::new(backend.in_scope(Scope::current()));
    let service = matyan_optuna::service(connect);
    TranslatedService { prefix: matyan_optuna::PREFIX, service: BoxCloneSyncService::new(service) }
}
