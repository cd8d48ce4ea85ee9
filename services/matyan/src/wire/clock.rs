//! Real time and randomness, for services that take them as arguments. No crate below this
//! crate reads either directly.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use matyan_access::{AccessToken, BrowserSecret, SecretKind};
use uuid::Uuid;

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> Arc<dyn Fn() -> i64 + Send + Sync> {
    Arc::new(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
    })
}

/// Sixteen unique bytes.
pub(crate) fn new_id() -> Arc<dyn Fn() -> [u8; 16] + Send + Sync> {
    Arc::new(|| Uuid::new_v4().into_bytes())
}

/// A unique id as text.
pub(crate) fn new_id_text() -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(|| Uuid::new_v4().to_string())
}

/// A new secret for a browser.
pub(crate) fn new_secret() -> Arc<dyn Fn(SecretKind) -> BrowserSecret + Send + Sync> {
    Arc::new(|kind| BrowserSecret::generate(kind, &mut rand::rng()))
}

/// A new access token.
pub(crate) fn new_token() -> Arc<dyn Fn() -> AccessToken + Send + Sync> {
    Arc::new(|| AccessToken::generate(&mut rand::rng()))
}
