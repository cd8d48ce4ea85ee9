//! Parsers for each kind of setting. An error names the mistake in the value, and describes valid
//! values.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use tracing_subscriber::filter::Targets;

use matyan_access::{NAME_OF_DEFAULT, is_project_name};
use matyan_backend::MAX_TABLE_BYTES;
use matyan_edge::Protocol;
use matyan_log::kafka_settings::Compression;
use matyan_sign_in::{ClientSecret, is_trustworthy};
use matyan_wire::ingestion::RecordFormat;

use super::secret::Secret;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Whether callers are asked who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessMode {
    On,
    Off,
}

/// More connections than a machine has ports.
const MAX_CONNECTIONS: usize = 1_000_000;

/// A number of partitions that a Kafka cluster can easily handle.
const MAX_PARTITIONS: u32 = 10_000;
const MAX_REPLICAS: u16 = 32;

/// Longest time in milliseconds for which a record of Kafka waits for others. The acknowledgment of
/// the record waits with it.
const MAX_LINGER_MS: u64 = 1_000;
/// Maximum number of bytes for which a read of Kafka waits: the size of one delivery.
const MAX_FETCH_BYTES: u32 = 1 << 20;
/// Limits in milliseconds for the wait of a read. With less, an idle worker would ask its brokers without a pause.
const FETCH_WAITS_MS: RangeInclusive<u64> = 10..=5_000;

/// Limits for the memory of tables of runs: with less, small projects have no sorted lists.
const TABLE_BYTES: RangeInclusive<usize> = 1 << 20..=MAX_TABLE_BYTES;

/// Limits for retries of store operations.
const MAX_ATTEMPTS: u32 = 1_000;
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Maximum lifetime of signed URLs in S3 and GCS: a week.
const MAX_LIFETIME_S: u64 = 7 * 24 * 3_600;

/// Parses an environment: true if development values are refused.
pub(super) fn is_production(text: &str) -> Result<bool, String> {
    match text {
        "production" => Ok(true),
        "development" => Ok(false),
        _ => Err("is not an environment; use development or production".into()),
    }
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| {
        "is not an IP address; use an address such as 127.0.0.1, or 0.0.0.0 for every interface".into()
    })
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "is not a port; use a number from 0 (any free one) to 65535".into())
}

/// Parses an optional port: as in Matyan 0.3, 0 or a negative number disables it.
pub(super) fn port_or_none(text: &str) -> Result<u16, String> {
    match text.parse::<i64>() {
        Ok(..=0) => Ok(0),
        Ok(port) => u16::try_from(port)
            .map_err(|_| "is not a port; use a number from 1 to 65535, or 0 for none".into()),
        Err(_) => Err("is not a port; use a number from 1 to 65535, or 0 for none".into()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "all parsers have the same signature")]
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    Ok(text.into())
}

/// Parses a log level or filter directives. Also accepts Python's level names, which
/// deployments of Matyan 0.3 set.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    let directives = match text.to_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        "notset" => "trace".to_owned(),
        level @ ("off" | "error" | "warn" | "info" | "debug" | "trace") => level.to_owned(),
        _ if text.contains('=') => text.to_owned(),
        _ => String::new(),
    };
    if directives.is_empty() || directives.parse::<Targets>().is_err() {
        return Err("is not a level; use error, warn, info, debug or trace, or filters such as info,matyan_worker=debug".into());
    }
    Ok(directives)
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is not a format; use text or json".into()),
    }
}

pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let uri = text.parse::<http::Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    match uri {
        Some(_) => Ok(text.to_owned()),
        None => {
            Err("is not a collector address; use an address such as http://127.0.0.1:4317, its gRPC port"
                .into())
        }
    }
}

pub(super) fn service_name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is empty; set a name, or unset it".into()),
        name => Ok(name.to_owned()),
    }
}

pub(super) fn message_format(text: &str) -> Result<RecordFormat, String> {
    match text {
        "protobuf" => Ok(RecordFormat::Protobuf),
        "json" => Ok(RecordFormat::Json),
        _ => Err("is not a message format; use protobuf, or json for workers of Matyan 0.3".into()),
    }
}

pub(super) fn access(text: &str) -> Result<AccessMode, String> {
    match text.to_lowercase().as_str() {
        "on" => Ok(AccessMode::On),
        "off" => Ok(AccessMode::Off),
        _ => Err("is not a mode of access control; use on or off".into()),
    }
}

/// Parses the address of a provider with which people sign in.
pub(super) fn provider_url(text: &str) -> Result<String, String> {
    if is_trustworthy(text) {
        return Ok(text.to_owned());
    }
    Err("is not the address of a provider; use https:// and a host, or http:// for a provider on this machine".into())
}

/// Reads the secret of a client of a provider from its file.
pub(super) fn client_secret_file(path: &str) -> Result<ClientSecret, String> {
    match std::fs::read_to_string(path) {
        Ok(secret) if secret.trim().is_empty() => {
            Err("is an empty file; write the client secret of the provider into it".into())
        }
        Ok(secret) => Ok(ClientSecret::new(secret.trim())),
        Err(error) => Err(format!("cannot be read ({error}); set the path of a file with the client secret")),
    }
}

/// Parses a boolean, with the spellings that Matyan 0.3 accepts.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is not a boolean; use true or false".into()),
    }
}

pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=MAX_LIFETIME_S) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("is not a lifetime; use a number of seconds from 1 to {MAX_LIFETIME_S}")),
    }
}

pub(super) fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_CONNECTIONS) => Ok(count),
        _ => Err(format!("is not a number of connections; use a number from 1 to {MAX_CONNECTIONS}")),
    }
}

pub(super) fn upload_bytes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err("is not a size; use a number of bytes, such as 107374182400 for 100 GiB".into()),
    }
}

/// Parses the size of a cache, which may be empty.
pub(super) fn cache_bytes(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "is not a size; use a number of bytes, such as 16777216 for 16 MiB".into())
}

/// Parses the memory of tables of runs.
pub(super) fn table_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if TABLE_BYTES.contains(&bytes) => Ok(bytes),
        _ => {
            Err("is not a size from 1 MiB to 2 GiB; use a number of bytes, such as 1073741824 for 1 GiB"
                .into())
        }
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "is not a duration; use a number of seconds, such as 5 or 0.5".into())
}

/// Parses a time limit, which cannot be zero.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let time = seconds(text)?;
    if time.is_zero() {
        return Err("leaves no time for anything; use a number of seconds, such as 3600".into());
    }
    Ok(time)
}

/// Parses hours; 0 means never.
pub(super) fn hours_or_never(text: &str) -> Result<Option<Duration>, String> {
    let hours = text.parse::<f64>().ok();
    match hours.and_then(|hours| Duration::try_from_secs_f64(hours * 3_600.0).ok()) {
        Some(Duration::ZERO) => Ok(None),
        Some(time) => Ok(Some(time)),
        None => Err("is not a duration; use a number of hours, such as 24 or 0.5, or 0 for never".into()),
    }
}

/// Parses the name of a project. The default project has no name.
pub(super) fn project(text: &str) -> Result<String, String> {
    match text {
        NAME_OF_DEFAULT => Ok(String::new()),
        name if is_project_name(name) => Ok(name.to_owned()),
        _ => Err("is not the name of a project; use a name that `matyan projects list` shows".into()),
    }
}

/// Parses host names without ports, separated by commas.
pub(super) fn host_names(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> =
        text.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect();
    match names.iter().find(|name| *name != "*" && !is_host_pattern(name)) {
        Some(wrong) => Err(format!(
            "contains `{wrong}`, which is not a host name; use names without scheme and port, such as \
             matyan.example or *.example"
        )),
        None => Ok(names),
    }
}

/// Whether this is a host name, which may start with `*.`.
fn is_host_pattern(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    name.starts_with(|it: char| it.is_ascii_alphanumeric())
        && name.chars().all(|it| it.is_ascii_alphanumeric() || "-._".contains(it))
}

/// Parses a JSON array, like Matyan 0.3, or a comma-separated list.
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let origins = match serde_json::from_str::<Vec<String>>(text) {
        Ok(origins) => origins,
        Err(_) if text.starts_with('[') => {
            return Err(
                "is not a JSON array of strings; use an array such as [\"https://ui.example\"]".into()
            );
        }
        Err(_) => text.split(',').map(|origin| origin.trim().to_owned()).collect(),
    };
    match origins.iter().find(|origin| web_host(origin).is_none()) {
        Some(wrong) => Err(format!(
            "contains `{wrong}`, which is not an origin; use scheme and host, such as https://ui.example"
        )),
        None => Ok(origins),
    }
}

/// Parses names of protocols separated by commas, or `none`.
pub(super) fn protocols(text: &str) -> Result<Vec<Protocol>, String> {
    if text.trim() == "none" {
        return Ok(Vec::new());
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut protocols = Vec::new();
    for name in names {
        let protocol = Protocol::from_name(name).ok_or_else(|| {
            let known = Protocol::ALL.map(Protocol::name).join(", ");
            format!("contains `{name}`, which is not a protocol; use names of {known}, or none")
        })?;
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    Ok(protocols)
}

pub(super) fn web_url(text: &str) -> Result<String, String> {
    match web_host(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("is not a URL; use http:// or https:// and a host".into()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "all parsers have the same signature")]
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "all parsers have the same signature")]
pub(super) fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// Parses an addressing style: whether the name of a bucket is part of the host name or of the
/// path.
pub(super) fn is_virtual_host(text: &str) -> Result<bool, String> {
    match text {
        "path" => Ok(false),
        "virtual" => Ok(true),
        _ => Err("is not an addressing style; use path, or virtual for bucket.host".into()),
    }
}

/// Parses the source of S3 credentials: the keys in these settings, or AWS's default chain.
pub(super) fn uses_aws_chain(text: &str) -> Result<bool, String> {
    match text {
        "keys" => Ok(false),
        "aws" => Ok(true),
        _ => Err("is not a source of credentials; use keys, or aws for the default chain of AWS".into()),
    }
}

/// Parses the address of an emulator. Like Google's own tools, it accepts host and port without
/// a scheme.
pub(super) fn emulator(text: &str) -> Result<String, String> {
    if text.contains("://") { web_url(text) } else { web_url(&format!("http://{text}")) }
}

/// Parses the path under which a proxy exposes the server, or under which the API is found.
/// Trailing slashes are removed.
pub(super) fn base_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(is_plain_segment) => Ok(path.to_owned()),
        None if path.is_empty() => Ok(String::new()),
        _ => Err("is not a path; use a path such as /matyan".into()),
    }
}

fn is_plain_segment(segment: &str) -> bool {
    !segment.is_empty() && segment.chars().all(is_harmless)
}

/// Parses a bearer token for the `Authorization` header.
pub(super) fn token(text: &str) -> Result<String, String> {
    if !text.chars().all(|it| is_harmless(it) || "+/=".contains(it)) {
        return Err("is not a bearer token; use only letters, digits and -._~+/=".into());
    }
    Ok(text.to_owned())
}

/// Parses scheme, host and port of the API. The empty text means the address of the page.
pub(super) fn api_host(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let text = text.trim_end_matches('/');
    let is_plain = text
        .split_once("://")
        .is_some_and(|(_, host)| host.chars().all(|it| is_harmless(it) || "[]:".contains(it)));
    if !is_plain || web_host(text).is_none() {
        return Err("is not a host; use scheme and host, such as https://matyan.example".into());
    }
    Ok(text.to_owned())
}

fn is_harmless(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~".contains(character)
}

fn web_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let host = rest.split(['/', '?', '#', ':']).next()?;
    (!host.is_empty()).then_some(host)
}

/// Parses `host:port,host:port`.
pub(super) fn brokers(text: &str) -> Result<String, String> {
    match text.split(',').find(|broker| !is_broker(broker.trim())) {
        Some(wrong) => {
            Err(format!("contains `{wrong}`, which is not a broker; use host:port, separated by commas"))
        }
        None => Ok(text.to_owned()),
    }
}

fn is_broker(text: &str) -> bool {
    // At the last colon, because IPv6 addresses contain several colons.
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Parses the name of a topic or a consumer group.
pub(super) fn topic(text: &str) -> Result<String, String> {
    const LONGEST: usize = 249;
    let is_legal = text.chars().all(|it| it.is_ascii_alphanumeric() || "._-".contains(it));
    if text.len() > LONGEST || !is_legal || text.chars().all(|it| it == '.') {
        return Err(format!(
            "is not a valid Kafka name; use at most {LONGEST} letters, digits, dots, dashes and underscores"
        ));
    }
    Ok(text.to_owned())
}

/// Checks the API version. Only one is supported; the setting exists because Matyan 0.3 had it.
pub(super) fn fdb_api_version(text: &str) -> Result<(), String> {
    match text {
        "730" => Ok(()),
        _ => Err("is not the supported API version; unset it, or set 730".into()),
    }
}

pub(super) fn attempts(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_ATTEMPTS) => Ok(count),
        _ => Err(format!("is not a number of attempts; use a number from 1 to {MAX_ATTEMPTS}")),
    }
}

pub(super) fn delay(text: &str) -> Result<Duration, String> {
    let short = seconds(text)?;
    if short > MAX_DELAY {
        return Err(format!(
            "is too long a delay between attempts; use at most {} seconds",
            MAX_DELAY.as_secs()
        ));
    }
    Ok(short)
}

pub(super) fn partitions(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_PARTITIONS) => Ok(count),
        _ => Err(format!("is not a number of partitions; use a number from 1 to {MAX_PARTITIONS}")),
    }
}

pub(super) fn replicas(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_REPLICAS) => Ok(count),
        _ => Err(format!("is not a number of replicas; use a number from 1 to {MAX_REPLICAS}")),
    }
}

pub(super) fn linger(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(milliseconds @ 0..=MAX_LINGER_MS) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(format!("is not a time; use a number of milliseconds from 0 to {MAX_LINGER_MS}")),
    }
}

pub(super) fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "lz4" => Ok(Compression::Lz4),
        "none" => Ok(Compression::None),
        _ => Err("is not a compression; use lz4 or none".into()),
    }
}

pub(super) fn fetch_bytes(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(bytes @ 1..=MAX_FETCH_BYTES) => Ok(bytes),
        _ => Err(format!("is not a number of bytes; use a number from 1 to {MAX_FETCH_BYTES}")),
    }
}

pub(super) fn fetch_wait(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(milliseconds) if FETCH_WAITS_MS.contains(&milliseconds) => Ok(Duration::from_millis(milliseconds)),
        _ => {
            let least = FETCH_WAITS_MS.start();
            let most = FETCH_WAITS_MS.end();
            Err(format!("is not a time; use a number of milliseconds from {least} to {most}"))
        }
    }
}

pub(super) fn security_protocol(text: &str) -> Result<String, String> {
    one_of(text, &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
}

pub(super) fn sasl_mechanism(text: &str) -> Result<String, String> {
    one_of(text, &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
}

fn one_of(text: &str, known: &[&str]) -> Result<String, String> {
    match known.iter().find(|known| known.eq_ignore_ascii_case(text)) {
        Some(known) => Ok((*known).to_owned()),
        None => Err(format!("is not supported; use one of {}", known.join(", "))),
    }
}

pub(super) fn readable_file(text: &str) -> Result<PathBuf, String> {
    match std::fs::File::open(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!("cannot be read ({error}); set the path of a readable file")),
    }
}
