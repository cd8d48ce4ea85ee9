//! A search for secrets in what a server has left: its log and the files of its data directory, and the metrics of a
//! server in one process that still answers. Servers with access control are searched when their test drops them, so
//! every test that starts one is a test of this.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use memchr::memmem;

/// Bytes of a data directory that are searched at most, in small files first.
const MAX_BYTES: usize = 64 << 20;

/// The store preallocates its journal. The zeros at the end of a file are not read.
const CHUNK_BYTES: usize = 1 << 20;

/// The beginning of every secret. A letter for its kind follows: token, session, link, or state of a sign-in.
const BEGINNING: &[u8] = b"mt";
const KINDS: &[u8] = b"kslo";

const RANDOM_BYTES: usize = 43;
const CHECKSUM_BYTES: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The file with the token of the first operator, which is meant to be there.
const TOKEN_FILE: &str = "operator-token";

/// The path of the metrics.
const METRICS: &str = "/metrics/";

/// Time after which a server that does not answer is not searched for metrics any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The text before the link's secret in the banner of the first start.
const BEFORE_LINK: &[u8] = b"/sign-in#";

/// Whether a server with these flags asks its callers who they are.
pub(crate) fn is_closed(flags: &[String]) -> bool {
    flags.windows(2).any(|pair| pair == ["--access", "on"])
}

/// Panics if a secret is left, without printing it.
pub(crate) fn assert_none(log: &Path, data_dir: Option<&Path>, metrics: &[u8]) {
    let mut places = in_log(log);
    places.extend(describe(Path::new(METRICS), metrics, &secrets_in(metrics)));
    if let Some(data_dir) = data_dir {
        places.extend(in_data_dir(data_dir));
    }
    assert!(places.is_empty(), "secrets are left: {places:#?}");
}

/// The metrics of a running server, as its operator gets them. `None` if the test has ended the server or the token, or
/// keeps the server from answering.
pub fn read_metrics(query: &str, data_dir: &Path) -> Option<Vec<u8>> {
    let token = fs::read_to_string(data_dir.join(TOKEN_FILE)).ok()?;
    let address = query.strip_prefix("http://")?;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).ok()?;
    let authorization = format!("authorization: Bearer {}", token.trim());
    let head =
        format!("GET {METRICS} HTTP/1.1\r\nhost: {address}\r\n{authorization}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    answer.starts_with(b"HTTP/1.1 200 ").then_some(answer)
}

/// The places of a log that contain a secret. The link of the first start is printed once.
fn in_log(path: &Path) -> Vec<String> {
    let bytes = read(path, MAX_BYTES);
    let mut secrets = secrets_in(&bytes);
    let is_first_link = |at: &usize| bytes[*at..].starts_with(b"mtl_") && bytes[..*at].ends_with(BEFORE_LINK);
    if let Some(link) = secrets.iter().position(is_first_link) {
        secrets.remove(link);
    }
    describe(path, &bytes, &secrets)
}

/// The places of the files in a data directory that contain a secret.
pub fn in_data_dir(data_dir: &Path) -> Vec<String> {
    let token_file = data_dir.join(TOKEN_FILE);
    let mut files = files_by_size(data_dir);
    files.retain(|(_, path)| *path != token_file);
    let mut left = MAX_BYTES;
    let mut places = Vec::new();
    for (_, path) in files {
        let bytes = read(&path, left);
        left -= bytes.len();
        places.extend(describe(&path, &bytes, &secrets_in(&bytes)));
    }
    places
}

fn describe(path: &Path, bytes: &[u8], secrets: &[usize]) -> Vec<String> {
    let describe = |at: &usize| {
        let beginning = String::from_utf8_lossy(&bytes[*at..*at + BEGINNING.len() + 2]);
        format!("a secret that begins with {beginning} in {} at byte {at}", path.display())
    };
    secrets.iter().map(describe).collect()
}

/// Positions of all secrets with a valid checksum.
fn secrets_in(bytes: &[u8]) -> Vec<usize> {
    memmem::find_iter(bytes, BEGINNING).filter(|at| is_secret(&bytes[at + BEGINNING.len()..])).collect()
}

/// Whether these bytes continue a secret after `mt`: kind, `_`, random letters, `_`, and the checksum of the letters.
fn is_secret(rest: &[u8]) -> bool {
    let Some((kind, rest)) = rest.split_first_chunk::<2>() else { return false };
    let Some((random, rest)) = rest.split_first_chunk::<RANDOM_BYTES>() else { return false };
    let Some((given, _)) = rest.split_first_chunk::<{ 1 + CHECKSUM_BYTES }>() else { return false };
    let has_form =
        KINDS.contains(&kind[0]) && kind[1] == b'_' && random.iter().all(u8::is_ascii_alphanumeric);
    has_form && given[0] == b'_' && given[1..] == checksum(random)
}

/// CRC-32 in digits of base 62, from the most significant.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut rest = crc32fast::hash(bytes) as usize;
    let mut digits = [b'0'; CHECKSUM_BYTES];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[rest % DIGITS.len()];
        rest /= DIGITS.len();
    }
    digits
}

/// The first bytes of a file, until a chunk of zeros. Empty if the file does not exist: the test may have removed it.
fn read(path: &Path, limit: usize) -> Vec<u8> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?.take(limit as u64);
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
            let chunk = &bytes[before..];
            if chunk == &vec![0; chunk.len()][..] {
                return Ok(bytes);
            }
        }
    };
    exists(read()).unwrap_or_else(|error| panic!("{}: {error}", path.display())).unwrap_or_default()
}

/// All files below a directory, with their sizes, the smallest first.
fn files_by_size(directory: &Path) -> Vec<(u64, PathBuf)> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let listed = exists(list(&directory, &mut files));
        let listed = listed.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        directories.extend(listed.unwrap_or_default());
    }
    files.sort();
    files
}

/// Adds the files of a directory, and returns its directories.
fn list(directory: &Path, files: &mut Vec<(u64, PathBuf)>) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Links are not followed.
        let Some(metadata) = exists(entry.metadata())? else { continue };
        if metadata.is_dir() {
            directories.push(entry.path());
        } else if metadata.is_file() {
            files.push((metadata.len(), entry.path()));
        }
    }
    Ok(directories)
}

/// `None` if a file does not exist.
fn exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret with a valid checksum.
    fn secret(beginning: &str) -> String {
        let random = "a".repeat(RANDOM_BYTES);
        let checksum = String::from_utf8(checksum(random.as_bytes()).to_vec()).unwrap();
        format!("{beginning}{random}_{checksum}")
    }

    #[test]
    fn the_checksum_is_that_of_the_server() {
        assert_eq!(&checksum(b"abc"), b"0yKviM");
    }

    #[test]
    fn rule_104_a_secret_that_is_left_is_found_and_not_printed() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        assert_eq!(in_data_dir(&data_dir), [""; 0], "it does not exist");
        let folder = data_dir.join("log/ingestion");
        fs::create_dir_all(&folder).unwrap();
        let token = secret("mtk_");
        fs::write(data_dir.join(TOKEN_FILE), &token).unwrap();
        let mistyped = token.replace("aa_", "ab_");
        fs::write(folder.join("0.log"), format!("mtk_ {mistyped} {}", &token[..53])).unwrap();
        assert_eq!(in_data_dir(&data_dir), [""; 0]);
        for beginning in ["mtk_", "mts_", "mtl_", "mto_"] {
            let secret = secret(beginning);
            // After a chunk that is not all zeros, and before the zeros of a preallocated file.
            let mut bytes = vec![0; CHUNK_BYTES - 20];
            bytes[0] = 1;
            bytes.extend(secret.as_bytes());
            bytes.resize(3 * CHUNK_BYTES, 0);
            fs::write(folder.join("1.log"), bytes).unwrap();
            let places = in_data_dir(&data_dir);
            assert_eq!(places.len(), 1, "{places:?}");
            assert!(
                places[0].contains(beginning) && places[0].contains("/log/ingestion/1.log"),
                "{places:?}"
            );
            assert!(!places[0].contains(&secret[4..]));
        }
    }

    #[test]
    fn rule_104_the_link_of_the_first_start_is_in_a_log_once() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("server.log");
        let found = |text: &str| {
            fs::write(&log, text).unwrap();
            in_log(&log).len()
        };
        let link = secret("mtl_");
        let banner = format!("http://127.0.0.1:1/sign-in#{link}\n");
        assert_eq!(found(&banner), 0);
        assert_eq!(found(&banner.repeat(2)), 1);
        assert_eq!(found(&format!("{banner}opened {link}")), 1);
        assert_eq!(found(&banner.replace("mtl_", "mtk_")), 1);
    }
}
