//! All Prometheus metrics of the edge, under the names that dashboards use.
//! Items by type are counted by the frontier, for every API. Metrics are registered once per
//! process, in the registry shared by all its services; `/metrics/` exposes that registry.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::grpc_metrics::GrpcMetrics;
#[cfg(any(feature = "mlflow", feature = "optuna", feature = "wandb"))]
use crate::settings::Protocol;

const REQUEST_LABELS: [&str; 3] = ["method", "path_template", "status_class"];
const SHORT_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const LONG_SECONDS: [f64; 10] = [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
const ACK_SECONDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0, 40.0];

/// Cheap to clone; shared by the edges of both ports.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) grpc: GrpcMetrics,
    pub(crate) http: HttpMetrics,
    pub(crate) open_to_network: IntGauge,
    pub(crate) refused_connections: IntCounter,
    /// By protocol and operation.
    #[cfg(any(feature = "mlflow", feature = "optuna", feature = "wandb"))]
    unanswered_operations: IntCounterVec,
    pub(crate) ws_connections: IntGauge,
    pub(crate) ws_connection_seconds: Histogram,
    pub(crate) ws_ack_seconds: Histogram,
    pub(crate) ws_error_acks: IntCounter,
    pub(crate) ws_resends: IntCounter,
    pub(crate) ws_reopened_streams: IntCounter,
    pub(crate) ws_refused: IntCounter,
}

impl Metrics {
    /// Fails if the metrics are already registered.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| -> prometheus::Result<Histogram> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let open_to_network = IntGauge::new(
            "matyan_open_to_network",
            "1 if other machines can connect without signing in, otherwise 0.",
        )?;
        registry.register(Box::new(open_to_network.clone()))?;
        let unanswered_operations = IntCounterVec::new(
            Opts::new(
                "matyan_unanswered_operations_total",
                "Requests of clients of other trackers for operations that this server does not have.",
            ),
            &["protocol", "operation"],
        )?;
        registry.register(Box::new(unanswered_operations.clone()))?;
        let ws_connections = IntGauge::new("matyan_ws_connections_active", "Open WebSockets.")?;
        registry.register(Box::new(ws_connections.clone()))?;

        Ok(Metrics {
            registry: registry.clone(),
            grpc: GrpcMetrics::register(registry, &SHORT_SECONDS)?,
            http: HttpMetrics::register(registry)?,
            open_to_network,
            #[cfg(any(feature = "mlflow", feature = "optuna", feature = "wandb"))]
            unanswered_operations,
            refused_connections: counter(
                "matyan_connections_refused_total",
                "Connections that were closed at once, because too many were open.",
            )?,
            ws_connections,
            ws_connection_seconds: histogram(
                "matyan_ws_connection_duration_seconds",
                "Time that WebSockets were open.",
                &LONG_SECONDS,
            )?,
            ws_ack_seconds: histogram(
                "matyan_ws_ack_seconds",
                "Time from a frame to its ack.",
                &ACK_SECONDS,
            )?,
            ws_error_acks: counter("matyan_ws_error_acks_total", "Frames acknowledged with an error.")?,
            ws_resends: counter(
                "matyan_ws_resent_frames_total",
                "Frames that repeated an unacknowledged frame.",
            )?,
            ws_reopened_streams: counter(
                "matyan_ws_reopened_streams_total",
                "Streams to the frontier that failed and were reopened.",
            )?,
            ws_refused: counter("matyan_ws_refused_total", "WebSockets refused with 503.")?,
        })
    }

    /// The counter of an operation of a protocol that this server does not have. From the first call for it on, it is
    /// shown, so ports ask for all counters of their protocols when they are built: a rate needs a first value.
    #[cfg(any(feature = "mlflow", feature = "optuna", feature = "wandb"))]
    pub(crate) fn unanswered(&self, protocol: Protocol, operation: &str) -> IntCounter {
        self.unanswered_operations.with_label_values(&[protocol.name(), operation])
    }

    /// The whole registry in Prometheus' text format.
    pub(crate) fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Counts and durations of requests that are neither gRPC nor WebSockets.
#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) seconds: HistogramVec,
}

impl HttpMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("matyan_http_requests_total", "HTTP requests answered."),
            &REQUEST_LABELS,
        )?;
        registry.register(Box::new(requests.clone()))?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "matyan_http_request_duration_seconds",
                "Time to the first byte of an answer.",
            )
            .buckets(SHORT_SECONDS.to_vec()),
            &REQUEST_LABELS,
        )?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(HttpMetrics { requests, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_registered_once_and_exposed() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        metrics.ws_connections.inc();
        assert!(metrics.text().unwrap().contains("matyan_ws_connections_active 1"));
        assert!(Metrics::register(&registry).is_err());
    }
}
