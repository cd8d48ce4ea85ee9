//! Several live streams in one: the streams of other services, each with the index of its subscription.

use std::sync::Arc;

use futures::future::BoxFuture;
use matyan_proto::{
    live::v1::{
        LiveStreamEnd, SubscribeRequest, SubscribeResponse, live_service_server::LiveService,
        subscribe_response::Response as Message, subscription::Request as Wanted,
    },
    logs::v1::{LinesRequest, RecordsRequest},
};
use tonic::{Request, Response, Status};

use crate::{
    changes::Watches,
    edit::runs::watch::{self, Watch},
    logs,
    query::{
        catalog::Catalog,
        search::{RunsWatch, watch_runs},
    },
    series::follow::{self, Follow},
    server::{
        RpcResult, Server,
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
        stream::{ResponseStream, Sender, StreamEnd},
    },
};

const MAX_SUBSCRIPTIONS: usize = 32;

/// The service of live streams.
pub(crate) struct LiveApi {
    server: Server,
    catalog: Catalog,
    watches: Watches,
}

impl LiveApi {
    pub(crate) fn new(server: Server, catalog: Catalog, watches: Watches) -> Self {
        Self { server, catalog, watches }
    }

    async fn start_stream(&self, call: Call, wanted: Wanted) -> Result<LiveStream> {
        let deps = &self.server.deps;
        Ok(match wanted {
            Wanted::Watch(request) => {
                let watch = watch::start(deps, &self.watches, call, request).await?;
                LiveStream::Watch(Box::new(watch))
            }
            Wanted::WatchRuns(request) => {
                let watch = watch_runs(&self.catalog, &self.watches, call, request).await?;
                LiveStream::WatchRuns(Box::new(watch))
            }
            Wanted::Follow(request) => {
                let follow = follow::start(deps, &self.watches, call, request).await?;
                LiveStream::Follow(Box::new(follow))
            }
            Wanted::Lines(request) => LiveStream::Lines(call, request),
            Wanted::Records(request) => LiveStream::Records(call, request),
        })
    }
}

#[tonic::async_trait]
impl LiveService for LiveApi {
    type SubscribeStream = ResponseStream<SubscribeResponse>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> RpcResult<Self::SubscribeStream> {
        let (call, SubscribeRequest { subscriptions }) = self.server.start_call(request).await?;
        if subscriptions.is_empty() {
            return Err(Error::field("subscriptions", "is empty: give at least one").into());
        }
        convert::check_limit("subscriptions", subscriptions.len(), MAX_SUBSCRIPTIONS)?;
        let mut started = Vec::with_capacity(subscriptions.len());
        for subscription in subscriptions {
            let wanted = subscription.request.ok_or_else(|| {
                Error::field("subscriptions", "contains one without a request, or of an unknown kind")
            })?;
            started.push(self.start_stream(call.again(), wanted).await?);
        }
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond(async move |sender: Sender<SubscribeResponse>| {
            let send = |(index, stream): (u32, LiveStream)| stream.send(&deps, index, &sender);
            futures::future::try_join_all((0..).zip(started).map(send)).await?;
            Ok(())
        })))
    }
}

/// The stream of one subscription, with its request checked.
enum LiveStream {
    Watch(Box<Watch>),
    WatchRuns(Box<RunsWatch>),
    Follow(Box<Follow>),
    Lines(Call, LinesRequest),
    Records(Call, RecordsRequest),
}

impl LiveStream {
    /// Sends the messages of the stream, and its end. Boxed, because streams are large.
    fn send<'s>(
        self,
        deps: &'s Arc<Deps>,
        index: u32,
        sender: &'s Sender<SubscribeResponse>,
    ) -> BoxFuture<'s, Result<(), StreamEnd>> {
        Box::pin(async move {
            let to = Subscriber { index, sender };
            let ended = match self {
                Self::Watch(stream) => to.forward(Message::Watch, async |to| stream.run(&to).await).await,
                Self::WatchRuns(stream) => {
                    to.forward(Message::WatchRuns, async |to| stream.run(&to).await).await
                }
                Self::Follow(stream) => to.forward(Message::Follow, async |to| stream.run(&to).await).await,
                Self::Lines(call, request) => {
                    let send = async |to| logs::send_lines(deps, &call, &request, &to).await;
                    to.forward(Message::Lines, send).await
                }
                Self::Records(call, request) => {
                    let send = async |to| logs::send_records(deps, &call, &request, &to).await;
                    to.forward(Message::Records, send).await
                }
            };
            let end = match ended {
                Ok(()) => LiveStreamEnd::default(),
                // All of them end, and the client connects again.
                Err(StreamEnd::Disconnected | StreamEnd::Failed(Error::Stopping | Error::ClientStalled)) => {
                    return ended;
                }
                Err(StreamEnd::Failed(error)) => {
                    let status = Status::from(error);
                    let code = u32::try_from(i32::from(status.code())).unwrap_or_default();
                    LiveStreamEnd { code, message: status.message().to_owned() }
                }
            };
            to.send(Message::Ended(end)).await
        })
    }
}

/// The receiver of the messages of one subscription.
#[derive(Clone, Copy)]
struct Subscriber<'s> {
    index: u32,
    sender: &'s Sender<SubscribeResponse>,
}

impl Subscriber<'_> {
    async fn send(self, message: Message) -> Result<(), StreamEnd> {
        let message = SubscribeResponse { subscription: self.index, response: Some(message) };
        self.sender.send(message).await
    }

    /// Sends what `work` sends, until it ends.
    async fn forward<T>(
        self,
        wrap: fn(T) -> Message,
        work: impl AsyncFnOnce(Sender<T>) -> Result<(), StreamEnd>,
    ) -> Result<(), StreamEnd> {
        let (inner, mut messages) = self.sender.inner();
        let forward = async move {
            while let Some(message) = messages.recv().await {
                self.send(wrap(message)).await?;
            }
            Ok(())
        };
        let (ended, forwarded) = futures::future::join(work(inner), forward).await;
        forwarded.and(ended)
    }
}
