//! Kafka's murmur2 hash, so that the Java client, librdkafka's `murmur2_random`, and this program
//! agree on the partition of a key. This module contains only the hash: each log has its own rule
//! for records without a key.

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;

/// Returns the partition of a key. `partitions` must be at least 1.
pub(crate) fn partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Returns the partition of a key in a topic with this many partitions, or 0 if there are none.
pub fn partition_of(key: &[u8], partitions: usize) -> u32 {
    partition(key, partitions.max(1) as u32)
}

fn murmur2(data: &[u8]) -> u32 {
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed = (mixed ^ (mixed >> 24)).wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed;
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, expected: i32) {
        assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
    }

    /// Expected values from Apache Kafka's own test of `Utils.murmur2`.
    #[test]
    fn hashes_match_kafka() {
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check("abc", 479_470_107);
    }

    #[test]
    fn every_partition_is_within_range() {
        for number in 0..1000_u32 {
            assert!(partition(&number.to_le_bytes(), 6) < 6);
        }
        assert_eq!(partition(b"21", 1), 0);
    }
}
