//! The Azure account, parsed from a connection string as shown in Azure's portal or from the
//! account's URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use crate::{Error, Result};

/// Unreserved characters of RFC 3986, which a parameter of a URL may contain.
pub(super) const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Like `VALUE`, plus the slash between the segments of a blob's path.
pub(super) const PATH: &AsciiSet = &VALUE.remove(b'/');

/// Connection string of the storage emulator: fixed and published in its documentation.
const EMULATOR: &str = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;\
    AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
    BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1";

pub(super) struct Account {
    pub(super) name: String,
    /// Without the container.
    pub(super) endpoint: String,
    pub(super) key: Option<String>,
    pub(super) shared_access_signature: Option<String>,
}

impl Account {
    /// Parses `Name=value;Name=value`. A value may contain `=`.
    pub(super) fn from_connection_string(text: &str) -> Result<Self> {
        if value(text, "UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::from_connection_string(EMULATOR);
        }
        let endpoint = value(text, "BlobEndpoint");
        // A connection string with a shared access signature may name only the endpoint.
        let name = value(text, "AccountName").or_else(|| endpoint.as_deref().and_then(account_name_in));
        let name = name.ok_or_else(|| setup_error("AZURE_CONN_STR names no account: add AccountName"))?;
        let endpoint = endpoint.unwrap_or_else(|| {
            let scheme = value(text, "DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
            let suffix = value(text, "EndpointSuffix").unwrap_or_else(|| "core.windows.net".to_owned());
            format!("{scheme}://{name}.blob.{suffix}")
        });
        let key = value(text, "AccountKey");
        let shared_access_signature = value(text, "SharedAccessSignature");
        if key.is_none() && shared_access_signature.is_none() {
            return Err(setup_error(
                "AZURE_CONN_STR has neither AccountKey nor SharedAccessSignature: add one of them",
            ));
        }
        Ok(Self { name, endpoint, key, shared_access_signature })
    }

    pub(super) fn from_url(url: &str) -> Result<Self> {
        let name = account_name_in(url).ok_or_else(|| {
            setup_error(
                "AZURE_ACCOUNT_URL is not an account URL: use https://{account}.blob.core.windows.net",
            )
        })?;
        Ok(Self { name, endpoint: url.to_owned(), key: None, shared_access_signature: None })
    }
}

/// A value of a connection string, unless it is missing or empty.
fn value(connection_string: &str, wanted: &str) -> Option<String> {
    let pairs = connection_string.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.next().map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
}

/// Account name from `https://{name}.…` or, if the host is an IP address, from
/// `http://127.0.0.1:10000/{name}`.
fn account_name_in(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let name = match path.trim_end_matches('/') {
        "" => host.split(['.', ':']).next()?,
        path => path,
    };
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| name.to_owned())
}

fn setup_error(reason: &str) -> Error {
    Error::Setup { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, endpoint: &str, key: Option<&str>) {
        let account = Account::from_connection_string(text).unwrap();
        assert_eq!((account.name.as_str(), account.endpoint.as_str()), (name, endpoint), "{text}");
        assert_eq!(account.key.as_deref(), key, "{text}");
    }

    #[test]
    fn a_connection_string_names_the_account() {
        check("AccountName=a;AccountKey=k==", "a", "https://a.blob.core.windows.net", Some("k=="));
        check(
            "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=k;EndpointSuffix=core.example",
            "a",
            "http://a.blob.core.example",
            Some("k"),
        );
        check("accountname=a; AccountKey=k; BlobEndpoint=http://h:1/a;", "a", "http://h:1/a", Some("k"));
        check("BlobEndpoint=https://a.host;SharedAccessSignature=sv=1&sig=x%3D", "a", "https://a.host", None);
        let emulator = Account::from_connection_string("UseDevelopmentStorage=true").unwrap();
        assert_eq!(emulator.endpoint, "http://127.0.0.1:10000/devstoreaccount1");
        for wrong in ["", "AccountName=a", "AccountKey=k", "x"] {
            assert!(Account::from_connection_string(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_url_names_the_account() {
        for (url, name) in [
            ("https://a.blob.core.windows.net", Some("a")),
            ("https://a.blob.core.windows.net/", Some("a")),
            ("http://127.0.0.1:10000/devstoreaccount1", Some("devstoreaccount1")),
            ("a.blob.core.windows.net", None),
            ("https://", None),
            ("https://host/a/b", None),
        ] {
            let found = Account::from_url(url).ok().map(|account| account.name);
            assert_eq!(found.as_deref(), name, "{url}");
        }
    }
}
