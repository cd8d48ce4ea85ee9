//! Hashes of runs as users type them: in full, or as a prefix.

use matyan_proto::search::v1::{
    Query, RunsRequest, Sort, SortField, search_service_client::SearchServiceClient, sort::By,
};
use serde_json::json;

use super::{Error, client, connection::Connection};

/// Fewest characters that are taken as the prefix of a hash.
const FEWEST: usize = 4;
/// Length of the hashes that clients generate. A longer text cannot be a prefix of such a hash.
const WHOLE: usize = 32;
/// Maximum number of runs that are listed for an ambiguous prefix.
const MOST_CANDIDATES: usize = 10;

/// Returns the hashes that start with the given texts, each hash once, in the order given. If no known
/// run has a hash with a text, the text stays as it is: the next call reports that the run does not exist.
pub(super) async fn complete_all(channel: &Connection, given: Vec<String>) -> Result<Vec<String>, Error> {
    let mut run_ids = Vec::with_capacity(given.len());
    for text in given {
        let run_id = complete(channel, text).await?;
        if !run_ids.contains(&run_id) {
            run_ids.push(run_id);
        }
    }
    Ok(run_ids)
}

/// Returns the hash that starts with the given text.
pub(super) async fn complete(channel: &Connection, given: String) -> Result<String, Error> {
    let found = find_starting_with(channel, &given).await?;
    choose(given, found)
}

/// Whether a text is taken as the prefix of a hash.
pub(super) fn is_prefix(given: &str) -> bool {
    (FEWEST..WHOLE).contains(&given.chars().count())
}

/// Returns the first hashes that start with a text, including a hash that equals the text; none if the text
/// cannot be a prefix.
pub(super) async fn find_starting_with(channel: &Connection, given: &str) -> Result<Vec<String>, Error> {
    if !is_prefix(given) {
        return Ok(Vec::new());
    }
    // The order puts a run with exactly this name first.
    find(channel, &starting_with(given), MOST_CANDIDATES as u32 + 1).await
}

/// Addition to an error about a text that is too short to be the prefix of a hash.
pub(super) fn hint(given: &str) -> &'static str {
    if given.chars().count() < FEWEST {
        ", and the prefix of a hash must have at least four characters"
    } else {
        ""
    }
}

/// Returns the ids of the runs that a query finds, in their order; a limit of 0 means all.
pub(super) async fn find(channel: &Connection, query: &str, limit: u32) -> Result<Vec<String>, Error> {
    let order = Sort { by: Some(By::Field(SortField::RunId.into())), ..Sort::default() };
    let query = Query { text: query.to_owned(), ..Query::default() };
    let request = RunsRequest {
        query: Some(query),
        sort: vec![order],
        limit,
        ids_only: true,
        ..RunsRequest::default()
    };
    let mut messages = client!(SearchServiceClient, channel.clone()).runs(request).await?.into_inner();
    let mut run_ids = Vec::new();
    while let Some(message) = messages.message().await? {
        run_ids.extend(message.run_ids);
    }
    Ok(run_ids)
}

/// A query for the runs whose hashes start with a text, including archived runs. A JSON literal is
/// also a literal of MatyanQL.
fn starting_with(text: &str) -> String {
    format!("run.hash.startswith({}) and run.archived in (True, False)", json!(text))
}

/// Returns the only one of these ids that starts with a text. A text that is too short, or is not a prefix of
/// any id, stays as it is.
pub(super) fn choose_prefix(given: String, mut ids: Vec<String>) -> Result<String, Error> {
    if !is_prefix(&given) {
        return Ok(given);
    }
    // A run with exactly this name comes first.
    ids.sort_unstable();
    choose(given, ids)
}

fn choose(given: String, mut found: Vec<String>) -> Result<String, Error> {
    if found.is_empty() || found[0] == given {
        return Ok(given);
    }
    if found.len() == 1 {
        return Ok(found.remove(0));
    }
    let more = if found.len() > MOST_CANDIDATES { "\n  and more" } else { "" };
    found.truncate(MOST_CANDIDATES);
    Err(Error::Message(format!(
        "several runs begin with `{given}`: give more characters of one of these\n  {}{more}",
        found.join("\n  ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_identifies_the_only_run_that_has_it() {
        let check = |given: &str, found: &[&str], expected: Option<&str>| {
            let found = found.iter().map(|&run_id| run_id.to_owned()).collect();
            assert_eq!(choose(given.to_owned(), found).ok().as_deref(), expected, "{given}");
        };
        check("3fd1", &["3fd1c0"], Some("3fd1c0"));
        check("3fd1", &[], Some("3fd1"));
        check("3fd1", &["3fd1", "3fd1c0"], Some("3fd1"));
        check("3fd1", &["3fd1c0", "3fd1c1"], None);
    }

    #[test]
    fn an_ambiguous_prefix_lists_at_most_ten_runs() {
        let found = |count: usize| (0..count).map(|number| format!("3fd1{number:02}")).collect();
        let text = |count| choose("3fd1".to_owned(), found(count)).unwrap_err().to_string();
        assert_eq!(text(10).lines().count(), 11);
        assert!(text(11).ends_with("\n  3fd109\n  and more"));
    }
}
