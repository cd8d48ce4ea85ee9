//! Conditional and partial requests for one file, as in RFC 9110: `If-None-Match`, `If-Range`, and
//! `Range` with one range of bytes. Several ranges are answered with the whole file, as the RFC allows.

use http::{HeaderMap, header};

/// The bytes that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteRange {
    Whole,
    /// From the first byte to the last one, or to the end.
    From {
        first: u64,
        last: Option<u64>,
    },
    /// The last bytes.
    Suffix {
        length: u64,
    },
}

/// The part of a file that a range selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    Whole,
    /// The first and the last byte.
    Part {
        first: u64,
        last: u64,
    },
    /// The range is after the end of the file.
    Nothing,
}

impl ByteRange {
    /// A header that is not understood is ignored.
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        text.and_then(Self::parse).unwrap_or(Self::Whole)
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, ranges) = text.split_once('=')?;
        let (first, last) = ranges.trim().split_once('-')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        match (first, last) {
            ("", length) => Some(Self::Suffix { length: number(length)? }),
            (first, "") => Some(Self::From { first: number(first)?, last: None }),
            (first, last) => {
                let first = number(first)?;
                let last = number(last)?;
                (first <= last).then_some(Self::From { first, last: Some(last) })
            }
        }
    }

    pub(super) fn select(self, size: u64) -> Selection {
        let last_of_all = size.saturating_sub(1);
        match self {
            Self::Whole => Selection::Whole,
            Self::From { first, last } if first < size => {
                Selection::Part { first, last: last.unwrap_or(last_of_all).min(last_of_all) }
            }
            Self::Suffix { length } if length > 0 && size > 0 => {
                Selection::Part { first: size.saturating_sub(length), last: last_of_all }
            }
            Self::From { .. } | Self::Suffix { .. } => Selection::Nothing,
        }
    }
}

/// A number of digits only: `parse` would also accept a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Whether the caller already has this version of the file.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let listed = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    listed
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Whether a range of this version is wanted: without `If-Range`, a range of any.
pub(super) fn is_range_wanted(headers: &HeaderMap, etag: Option<&str>) -> bool {
    headers.get(header::IF_RANGE).is_none_or(|value| etag.is_some_and(|etag| value == etag))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn ranges_select_bytes_of_the_file() {
        let check = |text: &str, size: u64, expected: Selection| {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(ByteRange::of_request(&headers).select(size), expected, "{text} of {size}");
        };
        let part = |first, last| Selection::Part { first, last };
        check("bytes=0-0", 10, part(0, 0));
        check("bytes=2-4", 10, part(2, 4));
        check("Bytes=2-400", 10, part(2, 9));
        check("bytes=9-", 10, part(9, 9));
        check("bytes=-3", 10, part(7, 9));
        check("bytes=-30", 10, part(0, 9));
        for after_the_end in ["bytes=10-", "bytes=10-11", "bytes=18446744073709551615-", "bytes=-0"] {
            check(after_the_end, 10, Selection::Nothing);
        }
        for text in ["bytes=0-", "bytes=-1"] {
            check(text, 0, Selection::Nothing);
        }
        let ignored = [
            "bytes=4-2",
            "bytes=a-",
            "bytes=+1-2",
            "bytes=-",
            "bytes",
            "lines=1-2",
            "bytes=0-1,4-5",
            "bytes=99999999999999999999-",
        ];
        for text in ignored {
            check(text, 10, Selection::Whole);
        }
        assert_eq!(ByteRange::of_request(&HeaderMap::new()).select(10), Selection::Whole);
    }

    #[test]
    fn known_versions_are_recognized() {
        let headers = |name: HeaderName, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        for (value, known) in
            [("\"a\"", true), ("*", true), ("\"b\", W/\"a\"", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(is_known(&headers(header::IF_NONE_MATCH, value), "\"a\""), known, "{value}");
        }
        assert!(!is_known(&HeaderMap::new(), "\"a\""));
        assert!(is_range_wanted(&HeaderMap::new(), None));
        assert!(is_range_wanted(&headers(header::IF_RANGE, "\"a\""), Some("\"a\"")));
        assert!(!is_range_wanted(&headers(header::IF_RANGE, "\"a\""), None));
        // A weak tag says nothing about single bytes.
        assert!(!is_range_wanted(&headers(header::IF_RANGE, "W/\"a\""), Some("\"a\"")));
    }
}
