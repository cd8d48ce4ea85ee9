//! Where a gateway wants content, and with which headers.
//!
//! The user has named the gateway, but not the place that it names. A gateway in the hands of somebody
//! else must not make this machine send requests that only this machine can send: to its own services, to
//! the service of its cloud that hands out credentials, or with headers that mean something there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use matyan_value::{Map, Value};
use object_store_http::{
    Url,
    header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue},
};
use tokio::{net::lookup_host, time::timeout};

use crate::http::{HttpClient, HttpError, is_same_server, malformed};

/// Beginnings of the headers that describe content to a Matyan server, S3, Azure or Google. None of them
/// authorizes a request or asks a cloud for credentials, as `x-aws-…` and `metadata-flavor` do.
const HEADERS: [&str; 4] = ["content-", "x-amz-", "x-goog-", "x-ms-"];

/// Metadata services of Alibaba, Azure, Oracle, AWS and Google outside of the local addresses. They hand out credentials to
/// the machine that asks.
const METADATA_SERVICES: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Destination of an upload.
pub(super) struct UploadTarget {
    /// A parsed URL has its control characters escaped, so errors may quote it.
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

impl UploadTarget {
    /// Reads the answer of a gateway to a call, and refuses a destination that it must not choose.
    pub(super) async fn read(gateway: &HttpClient, call: &str, answer: &Map) -> Result<Self, HttpError> {
        let Some(Value::Text(url)) = answer.get("upload_url") else {
            return Err(malformed(call, "an answer without a usable `upload_url`"));
        };
        let headers = headers(answer.get("headers")).map_err(|reason| malformed(call, reason))?;
        let target = Url::parse(url).map_err(|_| malformed(call, "an `upload_url` that is not valid"))?;
        let base = gateway.address();
        check_scheme(base, &target).map_err(|reason| malformed(call, reason))?;
        // A gateway may always name itself, and on this machine, everything that is on it.
        if target.host() != base.host() && is_local(gateway, &target).await && !is_local(gateway, base).await
        {
            let host = target.host_str().unwrap_or_default();
            return Err(malformed(
                call,
                format!(
                    "an upload to {host}, which is this machine or its own network: check the server's settings of blobs"
                ),
            ));
        }
        Ok(Self { url: target, headers })
    }

    /// Whether the gateway takes the content itself.
    pub(super) fn is_of(&self, gateway: &HttpClient) -> bool {
        is_same_server(gateway.address(), &self.url)
    }
}

/// Reads the headers that an upload needs, if any.
fn headers(value: Option<&Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let Some(Value::Map(members)) = value else { return Ok(headers) };
    for (name, value) in members {
        let invalid = || format!("a header `{name}` that is not valid");
        let Value::Text(value) = value else { return Err(invalid()) };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        if !HEADERS.iter().any(|beginning| key.as_str().starts_with(beginning)) {
            return Err(format!("a header `{name}`, which no upload needs"));
        }
        headers.insert(key, HeaderValue::from_str(value).map_err(|_| invalid())?);
    }
    // The length of the content is known here.
    headers.remove(CONTENT_LENGTH);
    Ok(headers)
}

fn check_scheme(base: &Url, target: &Url) -> Result<(), &'static str> {
    match (base.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => Ok(()),
        (_, "http") => Err(
            "an `upload_url` with http, although the server is reached by https: let its proxy send X-Forwarded-Proto, \
             or set a public URL of its bucket with https",
        ),
        _ => Err("an `upload_url` with an unknown scheme"),
    }
}

/// Whether a host is this machine, or reachable only from its own network segment. An unknown name is
/// not: a proxy may know it.
async fn is_local(gateway: &HttpClient, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return is_local_address(address);
    }
    let port = url.port_or_known_default().unwrap_or_default();
    match timeout(gateway.timeouts().connect, lookup_host((host, port))).await {
        Ok(Ok(mut addresses)) => addresses.any(|address| is_local_address(address.ip())),
        Ok(Err(_)) | Err(_) => false,
    }
}

fn is_local_address(address: IpAddr) -> bool {
    if METADATA_SERVICES.contains(&address) {
        return true;
    }
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_local_address(address.into()),
            None => address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Timeouts;

    async fn read(gateway: &str, url: &str, given: &[(&str, &str)]) -> Result<UploadTarget, String> {
        let gateway = HttpClient::new(gateway, Timeouts::default()).unwrap();
        let text = |text: &str| Value::Text(text.to_owned());
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        let answer =
            Map::from([("upload_url".to_owned(), text(url)), ("headers".to_owned(), Value::Map(given))]);
        UploadTarget::read(&gateway, "/presign", &answer).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn rule_74_a_gateway_names_no_place_of_this_machine() {
        for url in [
            "http://127.0.0.1:8080/x",
            "http://localhost/x",
            "http://2130706433/x",
            "http://0.0.0.0:53800/x",
            "http://[::1]/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://169.254.169.254/latest/api/token",
            "http://[fe80::1]/x",
            "http://100.100.100.200/latest/meta-data/",
            "http://168.63.129.16/x",
            "http://[::ffff:168.63.129.16]/x",
            "http://192.0.0.192/x",
            "http://[fd00:ec2::254]/latest/api/token",
            "http://[fd20:ce::254]/x",
        ] {
            let refused = read("http://192.0.2.1:53801", url, &[]).await.err().unwrap();
            assert!(refused.contains("this machine or its own network"), "{url}: {refused}");
        }
        for (gateway, url) in [
            ("http://192.0.2.1:53801", "http://192.0.2.1:53801/x"),
            ("http://192.0.2.1:53801", "https://198.51.100.7/x"),
            ("http://192.0.2.1:53801", "http://10.0.0.7:9000/x"),
            // A gateway and a bucket on the same machine.
            ("http://127.0.0.1:53801", "http://localhost:9000/x"),
            ("http://localhost:53801", "http://127.0.0.1:9000/x"),
            ("https://192.0.2.1", "https://192.0.2.1/x"),
        ] {
            assert_eq!(read(gateway, url, &[]).await.unwrap().url.as_str(), url, "{gateway}");
        }
    }

    #[tokio::test]
    async fn a_gateway_may_name_its_own_https() {
        for (gateway, url, is_own) in [
            ("http://192.0.2.1", "http://192.0.2.1/x", true),
            ("http://192.0.2.1", "https://192.0.2.1/x", true),
            ("http://192.0.2.1", "https://192.0.2.1:9000/x", false),
            ("http://192.0.2.1", "https://198.51.100.7/x", false),
        ] {
            let target = read(gateway, url, &[]).await.unwrap();
            let gateway = HttpClient::new(gateway, Timeouts::default()).unwrap();
            assert_eq!(target.is_of(&gateway), is_own, "{url}");
        }
    }

    #[tokio::test]
    async fn rule_75_the_url_of_an_upload_has_no_control_characters() {
        let url = "https://198.51.100.7/\u{1b}[2J\n\u{202e}x?signature=%2Fa+b";
        let target = read("http://192.0.2.1", url, &[]).await.unwrap();
        assert_eq!(target.url.as_str(), "https://198.51.100.7/%1B[2J%E2%80%AEx?signature=%2Fa+b");
    }

    #[tokio::test]
    async fn rule_74_an_upload_is_as_protected_as_its_gateway() {
        let refused = read("https://192.0.2.1", "http://192.0.2.1/x", &[]).await.err().unwrap();
        assert!(refused.contains("X-Forwarded-Proto"), "{refused}");
        for url in ["file:///etc/passwd", "ftp://192.0.2.1/x", "/relative", ""] {
            assert!(read("http://192.0.2.1", url, &[]).await.is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn rule_74_a_gateway_chooses_only_headers_of_uploads() {
        let url = "https://198.51.100.7/x";
        let own = [
            ("Content-Type", "image/png"),
            ("content-range", "bytes 0-1/2"),
            ("x-ms-blob-type", "BlockBlob"),
            ("x-amz-acl", "private"),
            ("x-goog-meta-a", "b"),
        ];
        let target = read("http://192.0.2.1", url, &own).await.unwrap();
        assert_eq!(target.headers.len(), own.len());
        let target = read("http://192.0.2.1", url, &[("content-length", "1")]).await.unwrap();
        assert!(target.headers.is_empty());
        for name in [
            "X-aws-ec2-metadata-token-ttl-seconds",
            "Metadata-Flavor",
            "Metadata",
            "Authorization",
            "Host",
            "Cookie",
        ] {
            let refused = read("http://192.0.2.1", url, &[(name, "1")]).await.err().unwrap();
            assert!(refused.contains(&format!("a header `{name}`, which no upload needs")), "{refused}");
        }
    }
}
