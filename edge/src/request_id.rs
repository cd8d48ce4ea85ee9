//! Request ids and traces, which connect the log lines and spans of one request. Both are
//! propagated with every call to a service. An id set by a proxy is kept, because it also
//! appears in the proxy's log.

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use matyan_access::AccessToken;
use matyan_wire::headers::{REQUEST_ID, TRACEPARENT};
use matyan_wire::trace::{self, join_trace};
use tracing::{Instrument, Span};
use uuid::Uuid;

pub(crate) const HEADER: HeaderName = HeaderName::from_static(REQUEST_ID);

/// Maximum length of a request id. Longer or non-printable ids are replaced, so that a client
/// cannot forge log lines.
const MAX_ID_BYTES: usize = 128;

tokio::task_local! {
    static ID: HeaderValue;
}

/// The id of a request: the one it carries, or a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    headers
        .get(HEADER)
        .filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic))
        .cloned()
        .unwrap_or_else(|| {
            HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("a UUID is a valid header value")
        })
}

/// The span of a request, a child of its client's trace. It contains no query, and no token, link or other
/// secret that somebody has pasted into the path.
pub(crate) fn request_span<B>(request: &Request<B>, id: &HeaderValue) -> Span {
    let method = request.method().as_str();
    let path = AccessToken::masked(request.uri().path());
    let id = id.to_str().unwrap_or_default();
    // No parent: the trace comes from the header of the request.
    let span =
        tracing::info_span!(parent: None, "request", otel.kind = "server", id, method, path = path.as_str());
    join_trace(&span, request.headers().get(TRACEPARENT).map_or(&[], |it| it.as_bytes()));
    span
}

/// Runs the work of a request, so that its log lines and outgoing calls carry the request's id
/// and trace.
pub(crate) async fn run_in_span<T>(id: HeaderValue, span: Span, work: impl Future<Output = T>) -> T {
    ID.scope(id, work.instrument(span)).await
}

/// The id of the current request; empty outside of one.
pub(crate) fn current() -> String {
    ID.try_with(|id| id.to_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// Adds the id and trace of the current request to an outgoing call.
pub(crate) fn propagate(headers: &mut HeaderMap) {
    if let Ok(id) = ID.try_with(HeaderValue::clone) {
        headers.insert(HEADER, id);
    }
    trace::stamp(headers);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use matyan_access::{BrowserSecret, SIGN_IN_PREFIX, SecretKind};
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::with_default;
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Collects the texts of all fields of spans.
    #[derive(Clone, Default)]
    struct Fields(Arc<Mutex<Vec<String>>>);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            self.0.lock().unwrap().push(format!("{field}={value:?}"));
        }
    }

    impl Subscriber for Fields {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, attributes: &Attributes<'_>) -> Id {
            attributes.record(&mut self.clone());
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn rule_104_the_span_of_a_request_contains_no_secret_of_its_path() {
        let random = &mut StdRng::seed_from_u64(1);
        let kinds = [SecretKind::Session, SecretKind::Link, SecretKind::State];
        let mut secrets =
            kinds.map(|kind| BrowserSecret::generate(kind, random).reveal().to_owned()).to_vec();
        secrets.push(AccessToken::generate(random).reveal().to_owned());
        secrets.push(format!("{SIGN_IN_PREFIX}{}", "c".repeat(200)));
        for secret in secrets {
            for path in
                [format!("/{secret}"), format!("/p/speech/{secret}/x"), format!("/p/{}", &secret[..30])]
            {
                let fields = Fields::default();
                let request = Request::get(&path).body(()).unwrap();
                with_default(fields.clone(), || request_span(&request, &HeaderValue::from_static("id")));
                let recorded = fields.0.lock().unwrap().join(" ");
                assert!(recorded.contains(&format!("{}…", &secret[..4])), "{path}: {recorded}");
                assert!(!recorded.contains(&secret[4..20]), "{path}: {recorded}");
            }
        }
    }

    #[test]
    fn a_valid_id_from_a_proxy_is_kept() {
        let is_kept = |value: &'static [u8]| {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_bytes(value).unwrap())]);
            request_id(&headers) == value
        };
        assert!(is_kept(b"7f3a-proxy"));
        assert!(!is_kept(b""));
        assert!(!is_kept(b"two words"));
        assert!(!is_kept(&[b'x'; MAX_ID_BYTES + 1]));
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
