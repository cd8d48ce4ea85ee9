//! What an operator may set about the edge. Plain data: transports and the metrics registry are passed beside it.

use std::time::Duration;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Origins that a browser may call from.
    pub cors_origins: Vec<String>,
    /// False: HTTP requests are not recorded. The route for metrics stays.
    pub metrics_enabled: bool,
    /// WebSockets open at a time; more get 503.
    pub max_connections: usize,
    /// How long a frame may wait for the log before it is given up. The Python client stops for good after 45 s of silence.
    pub hold: Duration,
    /// A ping goes out this often; a peer from which nothing came since the last one is gone.
    pub ping_interval: Duration,
}

/// One setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct SettingError {
    pub setting: &'static str,
    pub problem: String,
}

impl Default for Settings {
    fn default() -> Self {
        let origins = [
            "http://localhost:3000",
            "http://localhost:8000",
            "http://localhost:8080",
            "http://127.0.0.1:8000",
            "http://localhost:53800",
            "http://127.0.0.1:53800",
        ];
        Settings {
            cors_origins: origins.map(str::to_owned).to_vec(),
            metrics_enabled: true,
            max_connections: 10_000,
            hold: Duration::from_secs(40),
            ping_interval: Duration::from_secs(20),
        }
    }
}

impl Settings {
    /// Every violation, not only the first.
    pub fn validate(&self) -> Result<(), Vec<SettingError>> {
        let mut errors = Vec::new();
        let mut require = |setting, holds: bool, problem: &str| {
            if !holds {
                errors.push(SettingError { setting, problem: problem.to_owned() });
            }
        };
        require("max_connections", self.max_connections > 0, "must be at least 1");
        require("ping_interval", self.ping_interval >= Duration::from_millis(10), "must be at least 10 ms");
        require(
            "hold",
            self.hold <= Duration::from_secs(42),
            "must be at most 42 s: clients give up after 45 s",
        );
        for origin in &self.cors_origins {
            let holds = origin.starts_with("http://") || origin.starts_with("https://");
            require("cors_origins", holds, &format!("`{origin}` must begin with http:// or https://"));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_listed() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let wrong = Settings {
            max_connections: 0,
            ping_interval: Duration::ZERO,
            hold: Duration::from_secs(60),
            cors_origins: vec!["localhost".into()],
            ..Default::default()
        };
        let settings: Vec<_> = wrong.validate().unwrap_err().iter().map(|error| error.setting).collect();
        assert_eq!(settings, ["max_connections", "ping_interval", "hold", "cors_origins"]);
    }
}
