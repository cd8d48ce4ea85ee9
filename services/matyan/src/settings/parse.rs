//! Text to value, for each kind of setting. An error says what is wrong with the value and what would be right.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use tracing_subscriber::filter::Targets;

use matyan_log::RecordFormat;

use super::LogFormat;

/// Where the user interfaces of Matyan 0.3 run during development, and where we do.
pub(super) const CORS_DEFAULT: &str = "http://localhost:3000,http://localhost:8000,http://localhost:8080,\
    http://127.0.0.1:8000,http://localhost:53800,http://127.0.0.1:53800";

/// More than a machine has ports for.
const MAX_CONNECTIONS: usize = 1_000_000;

/// What a cluster of Kafka bears with ease.
const MAX_PARTITIONS: u32 = 10_000;
const MAX_REPLICAS: u16 = 32;

/// Between attempts at what a store could not do at once.
const MAX_ATTEMPTS: u32 = 1_000;
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Signed URLs of S3 and GCS live at most a week.
const MAX_LIFETIME_S: u64 = 7 * 24 * 3_600;

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse()
        .map_err(|_| "is no IP address; give one such as 127.0.0.1, or 0.0.0.0 for every interface".into())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "is no port; give a number from 0 (any free one) to 65535".into())
}

/// As Matyan 0.3 has it, nothing and less than nothing is no port.
pub(super) fn port_or_none(text: &str) -> Result<u16, String> {
    match text.parse::<i64>() {
        Ok(..=0) => Ok(0),
        Ok(port) => {
            u16::try_from(port).map_err(|_| "is no port; give one from 1 to 65535, or 0 for none".into())
        }
        Err(_) => Err("is no port; give a number from 1 to 65535, or 0 for none".into()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all parsers")]
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    Ok(text.into())
}

/// Also the names that Python gives to levels, as deployments of Matyan 0.3 set those.
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
        return Err("is no level; give error, warn, info, debug or trace, or filters such as info,matyan_worker=debug".into());
    }
    Ok(directives)
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is no format; give text or json".into()),
    }
}

pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let uri = text.parse::<http::Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    match uri {
        Some(_) => Ok(text.to_owned()),
        None => {
            Err("is no address of a collector; give one such as http://127.0.0.1:4317, its gRPC port".into())
        }
    }
}

pub(super) fn service_name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is empty; give a name, or unset it".into()),
        name => Ok(name.to_owned()),
    }
}

pub(super) fn message_format(text: &str) -> Result<RecordFormat, String> {
    match text {
        "protobuf" => Ok(RecordFormat::Protobuf),
        "json" => Ok(RecordFormat::Json),
        _ => Err("is no message format; give protobuf, or json for workers of Matyan 0.3".into()),
    }
}

/// In the words that Matyan 0.3 takes.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is neither yes nor no; give true or false".into()),
    }
}

pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=MAX_LIFETIME_S) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("is no lifetime; give seconds from 1 to {MAX_LIFETIME_S}")),
    }
}

pub(super) fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_CONNECTIONS) => Ok(count),
        _ => Err(format!("is no number of connections; give one from 1 to {MAX_CONNECTIONS}")),
    }
}

pub(super) fn upload_bytes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err("is no size; give bytes, such as 107374182400 for 100 GiB".into()),
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "is no time; give seconds, such as 5 or 0.5".into())
}

/// None for 0.
pub(super) fn hours_or_never(text: &str) -> Result<Option<Duration>, String> {
    let hours = text.parse::<f64>().ok();
    match hours.and_then(|hours| Duration::try_from_secs_f64(hours * 3_600.0).ok()) {
        Some(Duration::ZERO) => Ok(None),
        Some(time) => Ok(Some(time)),
        None => Err("is no time; give hours, such as 24 or 0.5, or 0 for never".into()),
    }
}

/// A JSON list, as Matyan 0.3 takes it, or plain text with commas, as people write it.
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    let origins = match serde_json::from_str::<Vec<String>>(text) {
        Ok(origins) => origins,
        Err(_) if text.starts_with('[') => {
            return Err("is no JSON list of texts; give [\"https://ui.example\"]".into());
        }
        Err(_) => text.split(',').map(|origin| origin.trim().to_owned()).collect(),
    };
    match origins.iter().find(|origin| web_host(origin).is_none()) {
        Some(wrong) => Err(format!(
            "names `{wrong}`, which is no origin; write scheme and host, such as https://ui.example"
        )),
        None => Ok(origins),
    }
}

pub(super) fn web_url(text: &str) -> Result<String, String> {
    match web_host(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("is no URL; give http:// or https:// and a host".into()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all parsers")]
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Where a bucket's name stands in an address.
pub(super) fn is_virtual_host(text: &str) -> Result<bool, String> {
    match text {
        "path" => Ok(false),
        "virtual" => Ok(true),
        _ => Err("is no way to address a bucket; give path, or virtual for bucket.host".into()),
    }
}

/// Whose keys open a bucket of S3: those of our own settings, or what Amazon's tools find.
pub(super) fn is_found_by_amazon(text: &str) -> Result<bool, String> {
    match text {
        "keys" => Ok(false),
        "aws" => Ok(true),
        _ => Err("is no place for credentials; give keys, or aws for where Amazon's own tools look".into()),
    }
}

/// Google's own tools take host and port alone as well.
pub(super) fn emulator(text: &str) -> Result<String, String> {
    match text.contains("://") {
        true => web_url(text),
        false => web_url(&format!("http://{text}")),
    }
}

/// Below which path a proxy shows the server, or the API is found: without a slash at the end.
pub(super) fn base_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let is_plain = |segment: &str| !segment.is_empty() && segment.chars().all(is_harmless);
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(is_plain) => Ok(path.to_owned()),
        None if path.is_empty() => Ok(String::new()),
        _ => Err("is no path; give one such as /matyan".into()),
    }
}

/// A token as HTTP takes it behind `Bearer`.
pub(super) fn token(text: &str) -> Result<String, String> {
    match text.chars().all(|it| is_harmless(it) || "+/=".contains(it)) {
        true => Ok(text.to_owned()),
        false => Err("is no bearer token; give one of letters, digits and -._~+/=".into()),
    }
}

/// Scheme, host and port; empty: those of the page.
pub(super) fn api_host(text: &str) -> Result<String, String> {
    let is_plain = |host: &str| host.chars().all(|it| is_harmless(it) || "[]:".contains(it));
    match text.split_once("://") {
        None if text.is_empty() => Ok(String::new()),
        Some((_, host)) if web_host(text).is_some() && is_plain(host.trim_end_matches('/')) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("is no host; give scheme and host, such as https://matyan.example".into()),
    }
}

fn is_harmless(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~".contains(character)
}

fn web_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let host = rest.split(['/', '?', '#', ':']).next()?;
    (!host.is_empty()).then_some(host)
}

/// `host:port,host:port`
pub(super) fn brokers(text: &str) -> Result<String, String> {
    let is_broker = |broker: &str| {
        let (host, port) = broker.trim().rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().ok()? > 0).then_some(())
    };
    match text.split(',').find(|broker| is_broker(broker).is_none()) {
        Some(wrong) => {
            Err(format!("names `{wrong}`, which is no broker; give host:port, several with commas between"))
        }
        None => Ok(text.to_owned()),
    }
}

/// Also the name of a consumer group.
pub(super) fn topic(text: &str) -> Result<String, String> {
    const LONGEST: usize = 249;
    let is_legal = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    match text.len() <= LONGEST && text.chars().all(is_legal) && !text.chars().all(|it| it == '.') {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "is no name that Kafka takes; give at most {LONGEST} letters, digits, dots, dashes and underscores"
        )),
    }
}

/// The one that this program speaks; as Matyan 0.3, it may be told of it.
pub(super) fn fdb_api_version(text: &str) -> Result<(), String> {
    match text {
        "730" => Ok(()),
        _ => Err("is not the API that is spoken; remove it, or set 730".into()),
    }
}

pub(super) fn attempts(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_ATTEMPTS) => Ok(count),
        _ => Err(format!("is no number of attempts; give one from 1 to {MAX_ATTEMPTS}")),
    }
}

pub(super) fn delay(text: &str) -> Result<Duration, String> {
    let short = seconds(text)?;
    if short > MAX_DELAY {
        return Err(format!(
            "is too long between two attempts; give at most {} seconds",
            MAX_DELAY.as_secs()
        ));
    }
    Ok(short)
}

pub(super) fn partitions(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_PARTITIONS) => Ok(count),
        _ => Err(format!("is no number of partitions; give one from 1 to {MAX_PARTITIONS}")),
    }
}

pub(super) fn replicas(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_REPLICAS) => Ok(count),
        _ => Err(format!("is no number of replicas; give one from 1 to {MAX_REPLICAS}")),
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
        None => Err(format!("is not known here; give one of {}", known.join(", "))),
    }
}

pub(super) fn readable_file(text: &str) -> Result<PathBuf, String> {
    match std::fs::File::open(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!("cannot be read ({error}); name a readable file")),
    }
}
