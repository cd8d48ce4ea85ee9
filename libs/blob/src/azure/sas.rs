//! Shared access signatures made with the account key: for one blob, write-only, with an
//! expiry. They are made here because the `object_store` crate signs the percent-encoded path
//! while Azure verifies the plain one, so its signature would not match for a key with a space
//! or an umlaut.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use percent_encoding::utf8_percent_encode;
use sha2::Sha256;
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

use super::{
    account::{PATH, VALUE},
    container::UploadSigner,
};
use crate::{BlobKey, Clock, Error, Result};

/// Service version that defines these signing rules.
const VERSION: &str = "2020-12-06";

/// Write, which includes create.
const PERMISSIONS: &str = "w";

const TIME: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

pub(super) struct AccountKey {
    account: String,
    key: Vec<u8>,
    endpoint: String,
    container: String,
    clock: Clock,
}

impl AccountKey {
    pub(super) fn new(
        account: &str,
        key: &str,
        endpoint: &str,
        container: &str,
        clock: Clock,
    ) -> Result<Self> {
        let key = STANDARD.decode(key);
        let key = key.map_err(|_| Error::Setup {
            reason: "the Azure account key is not valid base64: check AccountKey in AZURE_CONN_STR"
                .to_owned(),
        })?;
        Ok(Self {
            account: account.to_owned(),
            key,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            container: container.to_owned(),
            clock,
        })
    }

    fn signature(&self, key: &BlobKey, expires: &str) -> String {
        let resource = format!("/blob/{}/{}/{key}", self.account, self.container);
        // Permissions, start, expiry, resource, identifier, IP range, protocol, version,
        // resource type (blob), snapshot, encryption scope, and five response headers.
        let fields =
            [PERMISSIONS, "", expires, &resource, "", "", "", VERSION, "b", "", "", "", "", "", "", ""];
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC accepts a key of any length");
        mac.update(fields.join("\n").as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }

    fn url(&self, key: &BlobKey, lifetime: Duration) -> Option<String> {
        let now_s = (self.clock)().div_euclid(1_000_000);
        let expires =
            OffsetDateTime::from_unix_timestamp(now_s).ok()?.checked_add(lifetime.try_into().ok()?)?;
        let expires = expires.format(TIME).ok()?;
        let signature = self.signature(key, &expires);
        let expires = utf8_percent_encode(&expires, VALUE);
        let signature = utf8_percent_encode(&signature, VALUE);
        let path = utf8_percent_encode(key.as_str(), PATH);
        let query = format!("sv={VERSION}&sr=b&sp={PERMISSIONS}&se={expires}&sig={signature}");
        Some(format!("{}/{}/{path}?{query}", self.endpoint, self.container))
    }
}

#[async_trait]
impl UploadSigner for AccountKey {
    async fn upload_url(&self, key: &BlobKey, lifetime: Duration) -> Result<String> {
        self.url(key, lifetime).ok_or_else(|| Error::Setup {
            reason: "the lifetime of upload URLs is too long: reduce S3_PRESIGN_EXPIRY".to_owned(),
        })
    }
}
