//! Runs every target on mutations of recorded data: for 1 second each, or as long as
//! `MATYAN_FUZZ_SECONDS` specifies. The duration determines how much is tried, never whether
//! the test passes.

use std::time::{Duration, Instant};

use matyan_fuzz::{TARGETS, seeds};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Tokens that parsers branch on.
const TOKENS: &[&[u8]] = &[
    b"NaN",
    b"-Infinity",
    b"Infinity",
    b"null",
    b"{}",
    b"[]",
    b"\\ud800",
    b"\"",
    b"\\",
    b"1e400",
    b"-0.0",
    b",",
    b":",
    b"18446744073709551616",
    b"\xff\xff\xff\xff\x0f",
    b"\x00",
    b"\xfe",
    b"../",
    b"%2e%2e",
    b"true",
    b"\n== ",
];

#[expect(clippy::disallowed_methods, reason = "the duration of the test is its only setting")]
fn seconds() -> f64 {
    std::env::var("MATYAN_FUZZ_SECONDS")
        .map_or(1.0, |text| text.parse().expect("MATYAN_FUZZ_SECONDS is a number"))
}

fn mutate(random: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => {
                let token = TOKENS.choose(random).copied().unwrap_or_default();
                bytes.splice(at..at, token.iter().copied());
            }
            4 => {
                let end = random.random_range(at..=bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let other = seeds.choose(random).cloned().unwrap_or_default();
                let from = random.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
    bytes
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the target is in the list");
    let seeds = seeds(name);
    for seed in &seeds {
        (target.run)(seed);
    }
    let seed: u64 = rand::rng().random();
    let mut random = StdRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs_f64(seconds());
    let mut tried = 0_u64;
    while Instant::now() < end {
        let bytes = mutate(&mut random, &seeds);
        if let Err(panic) = std::panic::catch_unwind(|| (target.run)(&bytes)) {
            eprintln!("{name} failed on {:?}", bytes.escape_ascii().to_string());
            std::panic::resume_unwind(panic);
        }
        tried += 1;
    }
    eprintln!("{name}: {tried} inputs from {} seeds, random seed {seed}", seeds.len());
}

#[test]
fn websocket_frame() {
    run("websocket_frame");
}

#[test]
fn batch() {
    run("batch");
}

#[test]
fn stream_codec() {
    run("stream_codec");
}

#[test]
fn json() {
    run("json");
}

#[test]
fn cbor() {
    run("cbor");
}

#[test]
fn signed_url() {
    run("signed_url");
}

#[test]
fn secrets() {
    run("secrets");
}

#[test]
fn credentials() {
    run("credentials");
}

#[test]
fn log_entry() {
    run("log_entry");
}

#[test]
fn block() {
    run("block");
}

#[test]
fn param_column() {
    run("param_column");
}

#[test]
fn query() {
    run("query");
}

#[test]
fn archive() {
    run("archive");
}

#[test]
fn multipart_upload() {
    run("multipart_upload");
}

#[test]
fn event_file() {
    run("event_file");
}

#[test]
fn event_record() {
    run("event_record");
}

#[test]
fn unfinished_upload() {
    run("unfinished_upload");
}

#[test]
fn log_segment() {
    run("log_segment");
}

#[test]
fn store_journal() {
    run("store_journal");
}

#[test]
fn point_rows() {
    run("point_rows");
}

#[test]
fn store_manifest() {
    run("store_manifest");
}

#[test]
fn every_target_is_run() {
    let makefile = include_str!("../../../Makefile").replace("\\\n", " ");
    let list = makefile.lines().find_map(|line| line.strip_prefix("FUZZ_TARGETS := "));
    let listed: Vec<_> = list.expect("the Makefile has the list").split_whitespace().collect();
    let targets: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(listed, targets);
    for target in targets {
        assert!(include_str!("mutate.rs").contains(&format!("run(\"{target}\");")), "no test runs {target}");
    }
}

#[test]
fn spool_records() {
    run("spool_records");
}

#[test]
fn upload_manifest() {
    run("upload_manifest");
}

#[test]
fn leveldb_log() {
    run("leveldb_log");
}

#[test]
fn request() {
    run("request");
}

#[test]
fn protobuf_message() {
    run("protobuf_message");
}
