//! Conversion of requests into model types. All limits are checked here, one error per field.

use std::time::Duration;

use matyan_access::AccessToken;
use matyan_model::series::StepRange;
use matyan_proto::{
    common::v1::{self as api, SeriesKey},
    limits,
    runs::v1::RunParts,
};
use matyan_value::Context;

use super::error::{Error, Result};

/// The requested steps; all steps if the request has no range.
pub(crate) fn step_range(range: Option<api::StepRange>) -> StepRange {
    range.map_or(StepRange::ALL, StepRange::from)
}

const DEFAULT_SETTLE_MS: u32 = 200;
const MAX_SETTLE_MS: u32 = 60_000;

/// Time for which changes of a run are collected before they are sent to a client that watches it.
pub(crate) fn settle_time(settle_ms: Option<u32>) -> Result<Duration> {
    let settle_ms = settle_ms.unwrap_or(DEFAULT_SETTLE_MS);
    if settle_ms > MAX_SETTLE_MS {
        return Err(Error::field("settle_ms", format!("is {settle_ms}: use at most {MAX_SETTLE_MS}")));
    }
    Ok(Duration::from_millis(settle_ms.into()))
}

pub(crate) fn context(key: &SeriesKey) -> Result<Context> {
    if key.context.len() > limits::CONTEXT_BYTES {
        let size = key.context.len();
        return Err(Error::TooLarge { field: "context", size, limit: limits::CONTEXT_BYTES });
    }
    Context::parse(&key.context).map_err(|error| Error::field("context", error.to_string()))
}

/// Table columns, or series names, in one call.
pub(crate) const MAX_COLUMNS: usize = 1_000;

/// The requested parts of runs. Param paths are sorted, so that each run is traversed once.
pub(crate) fn parts(parts: Option<RunParts>) -> Result<RunParts> {
    let mut parts = parts.unwrap_or_default();
    check_limit("param_paths", parts.param_paths.len(), MAX_COLUMNS)?;
    check_limit("series_names", parts.series_names.len(), MAX_COLUMNS)?;
    check_limit("series_keys", parts.series_keys.len(), MAX_COLUMNS)?;
    let selects_series = !parts.series_names.is_empty() || !parts.series_keys.is_empty();
    if selects_series && parts.series_types.is_empty() {
        let reason = "is empty, so `series_names` and `series_keys` select nothing: add SERIES_TYPE_METRIC";
        return Err(Error::field("series_types", reason));
    }
    if parts.series_offset > 0 && parts.series_limit == 0 {
        return Err(Error::field("series_offset", "needs a `series_limit`, the number of series to return"));
    }
    for key in &mut parts.series_keys {
        key.context = context(key)?.canonical().to_owned();
    }
    if parts.param_paths.iter().any(|path| path.segments.is_empty()) {
        return Err(Error::field("param_paths", "contains an empty path: give at least one key"));
    }
    parts.param_paths.sort_unstable_by(|one, other| one.segments.cmp(&other.segments));
    Ok(parts)
}

/// Checks that a count does not exceed its limit.
pub(crate) fn check_limit(field: &'static str, size: usize, limit: usize) -> Result<()> {
    if size > limit { Err(Error::TooLarge { field, size, limit }) } else { Ok(()) }
}

/// A text within its limit, without the tokens in it.
pub(crate) fn bounded_text(field: &'static str, text: &str, limit: usize) -> Result<String> {
    check_limit(field, text.len(), limit)?;
    Ok(without_tokens(text))
}

/// A text in which tokens are masked, by texts of the same length: people paste commands into notes and names, and
/// everyone who may read a project reads them.
pub(crate) fn without_tokens(text: &str) -> String {
    match AccessToken::mask_valid(text.as_bytes()) {
        Some((masked, _)) => String::from_utf8(masked).expect("ASCII was replaced by ASCII"),
        None => text.to_owned(),
    }
}

/// A required name, with surrounding whitespace trimmed.
pub(crate) fn required_name(field: &'static str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::field(field, "is blank: give a name"));
    }
    bounded_text(field, text, limits::NAME_BYTES)
}

/// Replaces a stored text if a new one is given.
pub(crate) fn set_text(
    stored: &mut String,
    field: &'static str,
    new: Option<&str>,
    limit: usize,
) -> Result<()> {
    if let Some(new) = new {
        check_limit(field, new.len(), limit)?;
        *stored = without_tokens(new);
    }
    Ok(())
}

/// Replaces a stored name if a new one is given that is not blank.
pub(crate) fn set_name(stored: &mut String, field: &'static str, new: Option<&str>) -> Result<()> {
    if let Some(new) = new.filter(|new| !new.trim().is_empty()) {
        *stored = required_name(field, new)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn rule_104_tokens_in_what_people_write_are_masked() {
        let token = AccessToken::generate(&mut StdRng::seed_from_u64(1));
        let command = format!("export MATYAN_TOKEN={}", token.reveal());
        let masked = bounded_text("content", &command, 1_000).unwrap();
        assert_eq!(masked.len(), command.len());
        assert!(masked.contains(&token.digest().id()) && !masked.contains(token.reveal()), "{masked}");
        let mut stored = String::new();
        set_text(&mut stored, "description", Some(&command), 1_000).unwrap();
        assert_eq!(stored, masked);
        set_name(&mut stored, "name", Some(token.reveal())).unwrap();
        assert!(stored.starts_with("mtk_masked_"), "{stored}");
        for other in ["", "mtk_", "a note about mtk_masked_0123", "ü"] {
            assert_eq!(without_tokens(other), other);
        }
    }
}
