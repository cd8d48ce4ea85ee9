//! Parameters of a query in addition to its text: the kind of search, the current time and the
//! caller's time zone.

/// The kind of search, which determines the names that a query has in addition to `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Run,
    Metric,
    Images,
    Texts,
    Distributions,
    Audios,
    Figures,
    Htmls,
    PointClouds,
}

impl Endpoint {
    /// Returns the name of the sequence under evaluation; `None` in a run search.
    pub fn variable(self) -> Option<&'static str> {
        match self {
            Endpoint::Run => None,
            Endpoint::Metric => Some("metric"),
            Endpoint::Images => Some("images"),
            Endpoint::Texts => Some("texts"),
            Endpoint::Distributions => Some("distributions"),
            Endpoint::Audios => Some("audios"),
            Endpoint::Figures => Some("figures"),
            Endpoint::Htmls => Some("htmls"),
            Endpoint::PointClouds => Some("point_clouds"),
        }
    }

    /// Whether sequences of this dtype are candidates. A dtype that is neither an object
    /// nor a log is a metric.
    pub fn accepts(self, dtype: &str) -> bool {
        let of_dtype = match dtype {
            "image" => Some(Endpoint::Images),
            "text" => Some(Endpoint::Texts),
            "distribution" => Some(Endpoint::Distributions),
            "audio" => Some(Endpoint::Audios),
            "figure" => Some(Endpoint::Figures),
            "html" => Some(Endpoint::Htmls),
            "point_cloud" => Some(Endpoint::PointClouds),
            "logs" | "log_records" => None,
            _ => Some(Endpoint::Metric),
        };
        of_dtype == Some(self)
    }
}

/// Parameters of a query in addition to its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryOptions {
    pub endpoint: Endpoint,
    /// Minutes to add to the caller's local time to get UTC: the unmodified header
    /// `X-Timezone-Offset`.
    pub offset_minutes: i32,
    /// Result of `datetime.now()` in Unix seconds.
    pub now: f64,
}
