//! Names for runs that nobody has named, which people can say: `calm-otter-412` instead of a hash.

use sha2::{Digest, Sha256};

/// Changing a list, or its order, would rename runs.
const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "amused", "arctic", "autumn", "bold", "brave", "breezy", "brief", "bright",
    "brisk", "calm", "candid", "clear", "clever", "cosmic", "cozy", "crisp", "curious", "daring", "deep",
    "early", "eager", "easy", "fair", "famous", "fancy", "fast", "fluent", "fond", "frank", "fresh",
    "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind",
    "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild", "modest", "neat", "nimble", "noble",
    "patient", "placid", "polite", "prime", "proud", "quick", "quiet", "rapid", "ready",
];

const NOUNS: [&str; 64] = [
    "acorn", "alpaca", "anchor", "aspen", "badger", "bamboo", "beacon", "birch", "bison", "brook", "canyon",
    "cedar", "cliff", "cloud", "comet", "coral", "crane", "creek", "dawn", "delta", "dolphin", "dune",
    "eagle", "ember", "falcon", "fern", "finch", "fjord", "forest", "fox", "garden", "geyser", "glacier",
    "grove", "harbor", "hare", "hazel", "heron", "island", "ivy", "jaguar", "juniper", "kestrel", "lagoon",
    "lake", "lark", "lemur", "lily", "lynx", "maple", "meadow", "meteor", "mountain", "oak", "ocean",
    "orbit", "orchid", "otter", "owl", "panda", "pebble", "pine", "prairie", "puffin",
];

const NUMBERS: u16 = 1_000;

/// Returns the name of a run that nobody has named. It depends on the id only, so every server and
/// every tool finds the same name. Two runs may have the same name.
///
/// ```
/// assert_eq!(matyan_value::spoken_name("r"), "autumn-aspen-916");
/// ```
pub fn spoken_name(run_id: &str) -> String {
    let digest = Sha256::digest(run_id.as_bytes());
    let word = |words: &[&'static str], byte: u8| words[usize::from(byte) % words.len()];
    let number = u16::from_be_bytes([digest[2], digest[3]]) % NUMBERS;
    format!("{}-{}-{number}", word(&ADJECTIVES, digest[0]), word(&NOUNS, digest[1]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A name that changes would be another name for a run that people have talked about.
    #[test]
    fn names_never_change() {
        assert_eq!(spoken_name("1b0c4f7e9d2a4c58b6a1f03e5d7c9a21"), "clever-canyon-585");
        assert_eq!(spoken_name(""), "golden-lynx-242");
        assert_eq!(spoken_name("größe"), "curious-delta-575");
    }

    #[test]
    fn words_are_short_different_and_easy_to_type() {
        for words in [ADJECTIVES, NOUNS] {
            assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
            for word in words {
                assert!(word.len() <= 8 && word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
            }
        }
    }

    #[test]
    fn few_of_a_thousand_runs_share_a_name() {
        let names: HashSet<String> = (0..1_000).map(|run| spoken_name(&format!("{run:032x}"))).collect();
        assert!(names.len() > 990, "{} names", names.len());
    }
}
