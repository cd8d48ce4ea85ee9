//! Texts that clients keep for later calls: the place in a list at which its next page starts, and
//! the values of a group. Both are URL-safe base64 of a CBOR list that starts with its format. They
//! hold nothing of the server, so they are valid on other servers and after a restart. They are not
//! signed: a client that changes one gets another place in a list that it may read anyway.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use matyan_model::ids::RunNumber;
use matyan_value::{Value, cbor};
use prost::Message;

use super::term::Term;
use crate::server::error::{Error, Result};

const CURSOR: i64 = 1;
const GROUP: i64 = 2;

/// Most values that runs are grouped by.
pub(crate) const MAX_VALUES: usize = 3;

/// Longest text that is decoded. The terms of all keys take 24 kB at most; the names of values may be
/// longer.
const MAX_BYTES: usize = 1 << 20;

/// The place in a list after which a page starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cursor {
    /// Digest of the request that the list belongs to.
    pub(crate) request: u64,
    /// The time of the first page, which counts as now on all of them.
    pub(crate) now_us: i64,
    /// The highest run number when the first page was read. Runs with higher numbers are left out, so
    /// that a walk ends. A run that is restored later may have a lower number, and be included.
    pub(crate) newest: RunNumber,
    /// The sort keys of the last run, or the values of the last group.
    pub(crate) terms: Vec<Term>,
    /// The id of the last run; empty in a list of groups.
    pub(crate) run_id: String,
    /// The number that the last group was sorted by.
    pub(crate) number: Term,
}

impl Cursor {
    pub(crate) fn encode(&self) -> String {
        encode(vec![
            Value::Integer(CURSOR),
            Value::Integer(self.request.cast_signed()),
            Value::Integer(self.now_us),
            Value::Integer(self.newest.0.cast_signed()),
            Value::Text(self.run_id.clone()),
            self.number.to_value(),
            Value::List(self.terms.iter().map(Term::to_value).collect()),
        ])
    }

    /// The cursor after a run of a list that is sorted by nothing but run number. The
    /// runs that follow are older, so new runs need no bound.
    pub(crate) fn newest_first(request: u64, number: RunNumber, run_id: &str) -> Self {
        let terms = vec![Term::Integer(number.0.cast_signed())];
        Self { request, now_us: 0, newest: number, terms, run_id: run_id.to_owned(), number: Term::Absent }
    }

    /// The run after which a list that is sorted by run number continues.
    pub(crate) fn decode_newest_first(text: &str, request: u64) -> Result<RunNumber> {
        Self::decode(text, request, 1)?.run_number()
    }

    pub(crate) fn run_number(&self) -> Result<RunNumber> {
        match self.terms.as_slice() {
            [Term::Integer(number)] => Ok(RunNumber(number.cast_unsigned())),
            _ => Err(Error::field("cursor", "is invalid: use the one of the previous page")),
        }
    }

    /// The cursor of a request that has this digest and this number of values.
    pub(crate) fn decode(text: &str, request: u64, values: usize) -> Result<Self> {
        let invalid = || Error::field("cursor", "is invalid: use the one of the previous page");
        let [format, digest, now_us, newest, run_id, number, terms] =
            <[Value; 7]>::try_from(decode(text).ok_or_else(invalid)?).map_err(|_| invalid())?;
        let (
            Value::Integer(CURSOR),
            Value::Integer(digest),
            Value::Integer(now_us),
            Value::Integer(newest),
            Value::Text(run_id),
            Value::List(terms),
        ) = (format, digest, now_us, newest, run_id, terms)
        else {
            return Err(invalid());
        };
        if digest.cast_unsigned() != request {
            let reason = "belongs to another request: use the same query, order, and group on all pages";
            return Err(Error::field("cursor", reason));
        }
        if terms.len() != values {
            return Err(invalid());
        }
        let number = Term::from_token(&number).ok_or_else(invalid)?;
        let terms = terms_of(&terms).ok_or_else(invalid)?;
        let newest = RunNumber(newest.cast_unsigned());
        Ok(Self { request, now_us, newest, terms, run_id, number })
    }
}

/// A digest of the parts of a request that a cursor depends on.
pub(crate) fn request_digest(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// A group of runs: the values that runs were grouped by, as in the request, and the terms of the group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupToken<B> {
    pub(crate) by: Vec<B>,
    pub(crate) terms: Vec<Term>,
}

impl<B: Message + Default> GroupToken<B> {
    pub(crate) fn encode(&self) -> String {
        encode(vec![
            Value::Integer(GROUP),
            Value::List(self.by.iter().map(|by| Value::Bytes(by.encode_to_vec())).collect()),
            Value::List(self.terms.iter().map(Term::to_value).collect()),
        ])
    }

    pub(crate) fn decode(text: &str) -> Result<Self> {
        let invalid = || Error::field("group", "is invalid: use the token of a group");
        let [format, by, terms] =
            <[Value; 3]>::try_from(decode(text).ok_or_else(invalid)?).map_err(|_| invalid())?;
        let (Value::Integer(GROUP), Value::List(by), Value::List(terms)) = (format, by, terms) else {
            return Err(invalid());
        };
        if !(1..=MAX_VALUES).contains(&by.len()) || by.len() != terms.len() {
            return Err(invalid());
        }
        let by = by
            .into_iter()
            .map(|by| match by {
                Value::Bytes(bytes) => B::decode(bytes.as_slice()).map_err(|_| invalid()),
                _ => Err(invalid()),
            })
            .collect::<Result<Vec<_>>>()?;
        let terms = terms_of(&terms).ok_or_else(invalid)?;
        Ok(Self { by, terms })
    }
}

fn terms_of(values: &[Value]) -> Option<Vec<Term>> {
    values.iter().map(Term::from_token).collect()
}

fn encode(values: Vec<Value>) -> String {
    URL_SAFE_NO_PAD.encode(cbor::encode(&Value::List(values)))
}

fn decode(text: &str) -> Option<Vec<Value>> {
    if text.len() > MAX_BYTES {
        return None;
    }
    match cbor::decode(&URL_SAFE_NO_PAD.decode(text).ok()?) {
        Ok(Value::List(values)) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::search::v1::{GroupBy, SortField, group_by::By};

    use super::*;

    #[test]
    fn cursors_survive_the_round_trip() {
        let terms =
            vec![Term::Absent, Term::Bool(true), Term::Integer(-1), Term::Float(0.5), Term::text("é")];
        let cursor = Cursor {
            request: u64::MAX,
            now_us: 5,
            newest: RunNumber(7),
            terms: terms.clone(),
            run_id: "r".into(),
            number: Term::Integer(3),
        };
        let text = cursor.encode();
        assert_eq!(Cursor::decode(&text, u64::MAX, 5).unwrap(), cursor);
        assert!(Cursor::decode(&text, 1, 5).is_err(), "another request");
        assert!(Cursor::decode(&text, u64::MAX, 4).is_err(), "another number of keys");
        let by = GroupBy { by: Some(By::Field(SortField::Name.into())), ..GroupBy::default() };
        let token = GroupToken { by: vec![by; 3], terms: terms[2..].to_vec() };
        assert_eq!(GroupToken::<GroupBy>::decode(&token.encode()).unwrap(), token);
        for wrong in ["", "?", "gA", &text, &text[1..], &"A".repeat(MAX_BYTES + 1)] {
            assert!(GroupToken::<GroupBy>::decode(wrong).is_err(), "{wrong}");
        }
        let by = |count: usize| Value::List(vec![Value::Bytes(Vec::new()); count]);
        let grouped =
            |by, values| encode(vec![Value::Integer(GROUP), by, Value::List(vec![Value::Null; values])]);
        assert!(GroupToken::<GroupBy>::decode(&grouped(by(3), 3)).is_ok());
        // The same with a number of 50,000 bytes as its only value, in CBOR.
        let digits =
            [&[0x83, 2, 0x81, 0x40, 0x81, 0xc2, 0x59, 0xc3, 0x50], [0xff; 50_000].as_slice()].concat();
        for wrong in [grouped(by(4), 4), grouped(by(0), 0), URL_SAFE_NO_PAD.encode(digits)] {
            assert!(GroupToken::<GroupBy>::decode(&wrong).is_err(), "{wrong:.100}");
        }
        for wrong in ["", "?", "gA", &token.encode(), &text[1..]] {
            assert!(Cursor::decode(wrong, u64::MAX, 5).is_err(), "{wrong}");
        }
    }
}
