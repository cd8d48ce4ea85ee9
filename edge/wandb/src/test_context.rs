//! The context of a request whose services have nothing, and count their calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use matyan_channels::{Channel, Channels, LargeWork};
use tonic::Status;
use tonic::body::Body;
use tower::BoxError;

use crate::budget::{AnswerMemory, Budget};
use crate::call::CallContext;
use crate::manifest_cache::ManifestCache;
use crate::owner_hints::OwnerHints;

/// Calls of services.
#[derive(Debug, Default)]
pub(crate) struct CallCounts {
    total: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl CallCounts {
    /// The number of all calls, and the most calls at the same time.
    pub(crate) fn total_and_most(&self) -> (usize, usize) {
        (self.total.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed))
    }

    async fn refuse(self: Arc<Self>) -> Status {
        self.total.fetch_add(1, Ordering::Relaxed);
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.now.fetch_sub(1, Ordering::Relaxed);
        Status::not_found("there is nothing")
    }
}

/// A context whose services answer each call with `NOT_FOUND`.
pub(crate) fn empty_context() -> (CallContext, Arc<CallCounts>) {
    let counts = Arc::new(CallCounts::default());
    let channel = || {
        let counts = Arc::clone(&counts);
        Channel::new(tower::service_fn(move |_: http::Request<Body>| {
            let refused = Arc::clone(&counts).refuse();
            async move { Ok::<http::Response<Body>, BoxError>(refused.await.into_http()) }
        }))
    };
    let memory = AnswerMemory::default();
    let context = CallContext {
        channels: Channels { backend: channel(), frontier: channel() },
        base_url: "http://localhost".to_owned(),
        origin: "http://localhost".to_owned(),
        user: String::new(),
        permits: None,
        budget: Arc::new(Budget::new(memory.clone())),
        large_work: LargeWork::new(),
        manifests: ManifestCache::new(memory),
        owner_hints: OwnerHints::default(),
    };
    (context, counts)
}
