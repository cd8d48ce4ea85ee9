//! Files of a run: uploads to signed URLs, lists, and reading.
//!
//! A file is announced when its upload URL is given, because some clients do not say when they have sent the file. A
//! file that never arrives is left out of lists.

use std::collections::BTreeSet;

use matyan_channels::{ArtifactPieces, call_all, is_missing, list_artifacts};
use matyan_proto::artifacts::v1::get_response::Message;
use matyan_proto::artifacts::v1::{Artifact, DeleteRequest, GetRequest, ListRequest};
use matyan_proto::ingest::v1::PresignRequest;
use matyan_proto::limits::ARTIFACT_PATH_BYTES;
use matyan_wire::content_types;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::batch::{RunBatch, publish, wait_for_published};
use crate::call::{CALLS_AT_A_TIME, CallContext, PermitMaker, project_or_default};
use crate::error::{Result, WandbError};
use crate::names::{RunName, file_path, time_text};
use crate::node::{Arguments, Node, Selection};
use crate::run_view::{ENTITY, RUN_ID};
use crate::runs::{find, no_run};

/// Folder of a run with the files of artifacts. For W&B, they are not files of the run.
pub(crate) const ARTIFACT_FOLDER: &str = "wandb-artifacts/";

/// The name of a manifest among the files of its version.
pub(crate) const MANIFEST: &str = "wandb_manifest.json";

/// The folder with the files of a version, in the run that has made it.
pub(crate) fn version_folder(id: &str) -> String {
    format!("{ARTIFACT_FOLDER}{id}/")
}

/// The path of a file of a version in the run that has made it.
pub(crate) fn version_path(id: &str, file: &str) -> Result<String> {
    Ok(version_folder(id) + &file_path(file)?)
}

/// The type of every upload. The signature of some URLs covers it, and clients send the headers that they get.
pub(crate) const UPLOAD_TYPE: &str = "application/octet-stream";

/// Files in one request.
const MAX_FILES: usize = 10_000;

/// Files on a page.
const DEFAULT_PAGE: i64 = 50;
const MAX_PAGE: i64 = 1_000;

/// Files that are read at a time for a pattern.
const FILES_PER_CALL: usize = 1_000;

/// The start of the cursor of a file, before its path.
const CURSOR_START: &str = "path:";

/// The member of a connection with the number of all nodes.
pub(crate) const TOTAL: &str = "totalCount";

/// Characters that are escaped in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A URL for one upload.
pub(crate) struct Upload {
    pub(crate) url: String,
    /// Headers as texts `Name:Value`.
    pub(crate) headers: Vec<String>,
}

/// Signs a URL for the upload of a file to a run.
pub(crate) async fn sign(context: &CallContext, run_id: &str, path: &str) -> Result<Upload> {
    let request = PresignRequest {
        run_id: run_id.to_owned(),
        artifact_path: path.to_owned(),
        content_type: UPLOAD_TYPE.to_owned(),
        size: None,
    };
    let signed = context.channels.ingest().presign(request).await?.into_inner();
    let url = absolute(context, signed.upload_url);
    let mut headers: Vec<String> =
        signed.headers.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
    headers.push(format!("Content-Type:{UPLOAD_TYPE}"));
    headers.sort();
    Ok(Upload { url, headers })
}

/// Signs URLs for the uploads of files to a run, in the order of their paths.
pub(crate) async fn sign_all(context: &CallContext, run_id: &str, paths: &[String]) -> Result<Vec<Upload>> {
    call_all(CALLS_AT_A_TIME, paths.iter().map(|path| sign(context, run_id, path))).await
}

/// A relative URL points to this server, as seen by the client.
pub(crate) fn absolute(context: &CallContext, url: String) -> String {
    if url.starts_with('/') { format!("{}{url}", context.origin) } else { url }
}

/// The URL under which a file of a run is read.
pub(crate) fn read_url(context: &CallContext, entity: &str, name: &RunName, path: &str) -> String {
    let segments = ["files", entity, &name.project, &name.id].into_iter().chain(path.split('/'));
    let escaped: String =
        segments.map(|segment| format!("/{}", utf8_percent_encode(segment, SEGMENT))).collect();
    let url = format!("{}{escaped}", context.base_url);
    match &context.permits {
        Some(permits) => {
            let permit = permits.permit(&name.project, &name.id, path);
            format!("{url}?{}={permit}", PermitMaker::PARAMETER)
        }
        None => url,
    }
}

fn input_run(input: &Arguments) -> Result<RunName> {
    RunName::new(project_or_default(input.text("projectName")?), input.required("runName")?)
}

/// Returns whether a path is the folder of artifacts, or in it.
fn is_of_artifacts(path: &str) -> bool {
    format!("{path}/").starts_with(ARTIFACT_FOLDER)
}

/// Refuses to upload a file of an artifact as a file of its run. Versions refuse uploads after their commit.
fn check_not_of_artifacts(path: &str) -> Result<()> {
    if !is_of_artifacts(path) {
        return Ok(());
    }
    Err(WandbError::invalid(format!(
        "`{}` is in the folder of the files of artifacts: save the file in another folder, or log an artifact",
        path.escape_debug()
    )))
}

/// The path of a file that a client uploads to a run.
fn run_file_path(name: &str) -> Result<String> {
    let path = file_path(name)?;
    check_not_of_artifacts(&path)?;
    Ok(path)
}

fn checked_count(names: &[&str]) -> Result<()> {
    if names.len() > MAX_FILES {
        return Err(WandbError::invalid(format!(
            "`files` has more than {MAX_FILES} members: send several requests"
        )));
    }
    Ok(())
}

/// Gives upload URLs for files of a run.
pub(crate) async fn create(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let name = input_run(&input)?;
    let names = input.texts("files")?.unwrap_or_default();
    checked_count(&names)?;
    let run = find(context, &name).await?.ok_or_else(|| no_run(&name.id))?;
    let paths = names.iter().map(|file| run_file_path(file)).collect::<Result<Vec<String>>>()?;
    let uploads = sign_all(context, &run.run_id, &paths).await?;
    let mut batch = RunBatch::default();
    let mut files = Vec::new();
    let mut upload_headers = Vec::new();
    for ((file, path), upload) in names.into_iter().zip(&paths).zip(uploads) {
        batch.announce(&run.run_id, path);
        files.push(json!({"name": file, "uploadUrl": upload.url}));
        upload_headers = upload.headers;
    }
    publish(&context.channels, &run.run_id, batch).await?;
    Ok(json!({"runID": name.id, "uploadHeaders": upload_headers, "files": files}))
}

/// Announces files a second time, now with their sizes.
pub(crate) async fn mark_uploaded(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let name = input_run(&input)?;
    let names = input.texts("files")?.unwrap_or_default();
    checked_count(&names)?;
    let run = find(context, &name).await?.ok_or_else(|| no_run(&name.id))?;
    let mut batch = RunBatch::default();
    for file in names {
        batch.announce(&run.run_id, &run_file_path(file)?);
    }
    publish(&context.channels, &run.run_id, batch).await?;
    Ok(json!({"success": true}))
}

/// The description of a file; `None` if it has not arrived.
async fn described(context: &CallContext, run_id: &str, path: &str) -> Result<Option<Artifact>> {
    let request = GetRequest { run_id: run_id.to_owned(), path: path.to_owned(), offset: 0, length: Some(0) };
    let mut messages = match context.channels.artifacts().get(request).await {
        Ok(response) => response.into_inner(),
        Err(status) if is_missing(&status) => return Ok(None),
        Err(status) => return Err(status.into()),
    };
    match messages.message().await {
        Ok(Some(message)) => match message.message {
            Some(Message::Artifact(artifact)) => Ok(Some(artifact)),
            _ => Err(WandbError::broken("artifact")),
        },
        Ok(None) => Err(WandbError::broken("artifact")),
        Err(status) if is_missing(&status) => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// The size of a file; `None` if it has not arrived.
pub(crate) async fn size(context: &CallContext, run_id: &str, path: &str) -> Result<Option<u64>> {
    Ok(described(context, run_id, path).await?.map(|artifact| artifact.size.unwrap_or_default()))
}

/// The files in a folder of a run, which are read piece by piece.
pub(crate) struct FolderFiles<'f> {
    folder: &'f str,
    pieces: ArtifactPieces,
}

impl<'f> FolderFiles<'f> {
    pub(crate) async fn open(context: &CallContext, run_id: &str, folder: &'f str) -> Result<Self> {
        let request = ListRequest {
            run_id: run_id.to_owned(),
            path_prefix: folder.to_owned(),
            ..ListRequest::default()
        };
        let pieces = ArtifactPieces::open(&context.channels, request).await?;
        Ok(Self { folder, pieces })
    }

    /// The next files by their paths in the folder, with the sizes that are known; `None` at the end of the list.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<(String, Option<u64>)>>> {
        let Some(piece) = self.pieces.next().await? else { return Ok(None) };
        let name = |path: &str| path.strip_prefix(self.folder).map(str::to_owned);
        Ok(Some(piece.into_iter().filter_map(|file| Some((name(&file.path)?, file.size))).collect()))
    }
}

/// A file of a run as it was listed.
pub(crate) struct ListedFile<'f> {
    pub(crate) run_id: &'f str,
    pub(crate) path: String,
    pub(crate) size: Option<u64>,
}

/// The sizes of files, asked for if they are not known; `None` for each file that has not arrived.
pub(crate) async fn known_sizes(context: &CallContext, files: &[ListedFile<'_>]) -> Result<Vec<Option<u64>>> {
    let mut sizes: Vec<Option<u64>> = files.iter().map(|file| file.size).collect();
    let unknown: Vec<usize> = (0..files.len()).filter(|index| sizes[*index].is_none()).collect();
    let unknown_files = unknown.iter().map(|index| &files[*index]);
    let asked = unknown_files.map(|file| size(context, file.run_id, &file.path));
    let found = call_all(CALLS_AT_A_TIME, asked).await?;
    for (index, found) in unknown.into_iter().zip(found) {
        sizes[index] = found;
    }
    Ok(sizes)
}

/// The number of files of a run.
pub(crate) async fn count(context: &CallContext, run: &Node) -> Result<Value> {
    Ok(count_matching(context, run.known(RUN_ID)?, None).await?.into())
}

/// The number of files of a run that match a pattern, counted as the list arrives.
async fn count_matching(context: &CallContext, run_id: &str, pattern: Option<&[char]>) -> Result<usize> {
    let request = ListRequest {
        run_id: run_id.to_owned(),
        path_prefix: literal_prefix(pattern),
        ..ListRequest::default()
    };
    let folder_end = end_of_artifacts();
    let mut pieces = ArtifactPieces::open(&context.channels, request.clone()).await?;
    let mut count = 0;
    while let Some(piece) = pieces.next().await? {
        count += piece.iter().filter(|file| is_listed(file, pattern)).count();
        let is_in_folder = |file: &Artifact| file.path.starts_with(ARTIFACT_FOLDER) && file.path < folder_end;
        if piece.last().is_some_and(is_in_folder) {
            let rest = ListRequest { after: folder_end.clone(), ..request.clone() };
            pieces = ArtifactPieces::open(&context.channels, rest).await?;
        }
    }
    Ok(count)
}

/// A text after the paths of all files of artifacts; there may be 100,000 such paths.
fn end_of_artifacts() -> String {
    format!("{ARTIFACT_FOLDER}{}", char::MAX)
}

/// A part of a list: its first index, and its length.
pub(crate) fn page(arguments: &Arguments) -> Result<(usize, usize)> {
    let start = match arguments.text("after")? {
        Some(after) => after.parse().map_err(|_| no_cursor())?,
        None => 0,
    };
    Ok((start, page_length(arguments)?))
}

fn page_length(arguments: &Arguments) -> Result<usize> {
    let first = arguments.integer("first")?.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    Ok(usize::try_from(first).unwrap_or(usize::MAX))
}

pub(crate) fn no_cursor() -> WandbError {
    WandbError::invalid("`after` is not a cursor of this list: send the `endCursor` of a page, or nothing")
}

/// A connection of nodes. The first node has this index.
pub(crate) fn connection(nodes: Vec<Value>, start: usize, total: usize) -> Value {
    let end = start.saturating_add(nodes.len());
    let edges: Value = nodes
        .into_iter()
        .zip(start.saturating_add(1)..)
        .map(|(node, cursor)| edge(node, cursor.to_string()))
        .collect();
    let mut connection = json!({
        "pageInfo": {"endCursor": end.to_string(), "hasNextPage": end < total},
        "totalCount": total,
    });
    connection[EDGES] = edges;
    connection
}

/// The member of a connection with its edges. They are moved to it: `json!` would copy a page that may be large.
pub(crate) const EDGES: &str = "edges";

/// An edge of a connection.
pub(crate) fn edge(node: Value, cursor: String) -> Value {
    Value::Object(Map::from_iter([("node".to_owned(), node), ("cursor".to_owned(), cursor.into())]))
}

/// A connection of the nodes of a page. Members of the page that have no node count as well, so that the next page begins
/// after them.
pub(crate) fn page_connection(nodes: Vec<Value>, start: usize, length: usize, total: usize) -> Value {
    let mut connection = connection(nodes, start, total);
    let end = start.saturating_add(length).min(total);
    connection["pageInfo"] = json!({"endCursor": end.to_string(), "hasNextPage": end < total});
    // Older clients continue after the last edge.
    if let Some(last) = connection[EDGES].as_array_mut().and_then(|edges| edges.last_mut()) {
        last["cursor"] = end.to_string().into();
    }
    connection
}

/// The characters of a pattern of SQL's `LIKE`, which is compared with the names of all files of a run.
fn pattern_chars(pattern: &str) -> Result<Vec<char>> {
    if pattern.len() > ARTIFACT_PATH_BYTES {
        return Err(WandbError::invalid(format!(
            "`pattern` has {} bytes, and the limit is {ARTIFACT_PATH_BYTES}: shorten it, or send `names`",
            pattern.len()
        )));
    }
    Ok(pattern.chars().collect())
}

/// Returns whether a name matches a pattern of SQL's `LIKE`.
fn is_like(name: &str, pattern: &[char]) -> bool {
    let name: Vec<char> = name.chars().collect();
    // The place in the pattern after the last `%`, and the place in the name where that `%` was tried.
    let mut at = 0;
    let mut of_pattern = 0;
    let mut retry = None;
    while at < name.len() {
        match pattern.get(of_pattern) {
            Some('%') => {
                of_pattern += 1;
                retry = Some((of_pattern, at));
            }
            Some(expected) if *expected == '_' || *expected == name[at] => {
                of_pattern += 1;
                at += 1;
            }
            _ => match retry {
                Some((after, tried)) => {
                    of_pattern = after;
                    at = tried + 1;
                    retry = Some((after, at));
                }
                None => return false,
            },
        }
    }
    pattern[of_pattern..].iter().all(|rest| *rest == '%')
}

/// The prefix that a pattern demands of a name: its characters before the first wildcard.
fn literal_prefix(pattern: Option<&[char]>) -> String {
    pattern.unwrap_or_default().iter().take_while(|character| !['%', '_'].contains(*character)).collect()
}

/// Returns whether a file matches a pattern, and is not a file of an artifact.
fn is_listed(file: &Artifact, pattern: Option<&[char]>) -> bool {
    !file.path.starts_with(ARTIFACT_FOLDER) && pattern.is_none_or(|pattern| is_like(&file.path, pattern))
}

/// Lists files of a run.
pub(crate) async fn list(
    context: &CallContext,
    run: &Node,
    arguments: &Arguments,
    selection: Selection<'_>,
) -> Result<Value> {
    let names = arguments.texts("names")?.unwrap_or_default();
    checked_count(&names)?;
    let mut connection = if names.is_empty() {
        page_of_files(context, run, arguments, selection.has_any(&[TOTAL])).await?
    } else {
        named_files(context, run, arguments, &names).await?
    };
    connection["uploadHeaders"] = json!([format!("Content-Type:{UPLOAD_TYPE}")]);
    Ok(connection)
}

/// Files by their names, sorted. They are listed even if they do not exist, as W&B does: a client asks for their upload
/// URLs.
async fn named_files(
    context: &CallContext,
    run: &Node,
    arguments: &Arguments,
    names: &[&str],
) -> Result<Value> {
    let run_id = run.known(RUN_ID)?;
    let (start, length) = page(arguments)?;
    let named = names.iter().map(|name| file_path(name)).collect::<Result<BTreeSet<String>>>()?;
    let total = named.len();
    let paths: Vec<String> = named.into_iter().skip(start).take(length).collect();
    let files = paths.iter().map(|path| named_file(context, run_id, path));
    let mut nodes = Vec::with_capacity(paths.len());
    for file in call_all(CALLS_AT_A_TIME, files).await? {
        nodes.push(file_node(context, run, &file, file.size.unwrap_or_default())?);
    }
    Ok(connection(nodes, start, total))
}

async fn named_file(context: &CallContext, run_id: &str, path: &str) -> Result<Artifact> {
    let found =
        if path.starts_with(ARTIFACT_FOLDER) { None } else { described(context, run_id, path).await? };
    Ok(Artifact { path: path.to_owned(), ..found.unwrap_or_default() })
}

/// A page of the files of a run that have arrived, in the order of their paths. The cursor of a file has its path, so a
/// page reads only its own files. The total number is read only if the client has selected it.
async fn page_of_files(
    context: &CallContext,
    run: &Node,
    arguments: &Arguments,
    has_total: bool,
) -> Result<Value> {
    let run_id = run.known(RUN_ID)?;
    let pattern = arguments.text("pattern")?.map(pattern_chars).transpose()?;
    let pattern = pattern.as_deref();
    let after = match arguments.text("after")? {
        Some(cursor) => cursor.strip_prefix(CURSOR_START).ok_or_else(no_cursor)?,
        None => "",
    };
    let (page, has_next) = files_after(context, run_id, pattern, after, page_length(arguments)?).await?;
    let listed = |file: &Artifact| ListedFile { run_id, path: file.path.clone(), size: file.size };
    let sizes = known_sizes(context, &page.iter().map(listed).collect::<Vec<_>>()).await?;
    let cursor = |path: &str| format!("{CURSOR_START}{path}");
    let end = cursor(page.last().map_or(after, |file| file.path.as_str()));
    let mut edges = Vec::with_capacity(page.len());
    let mut passed = 0;
    for (file, size) in page.into_iter().zip(sizes) {
        match size {
            Some(bytes) => edges.push(edge(file_node(context, run, &file, bytes)?, cursor(&file.path))),
            // The file has not arrived.
            None => passed += 1,
        }
    }
    let mut connection = json!({"pageInfo": {"endCursor": end, "hasNextPage": has_next}});
    if has_total {
        let total = count_matching(context, run_id, pattern).await?;
        connection[TOTAL] = total.saturating_sub(passed).into();
    }
    connection[EDGES] = edges.into();
    Ok(connection)
}

/// The first `length` files of a run after a path that match a pattern, and whether more follow.
async fn files_after(
    context: &CallContext,
    run_id: &str,
    pattern: Option<&[char]>,
    after: &str,
    length: usize,
) -> Result<(Vec<Artifact>, bool)> {
    let path_prefix = literal_prefix(pattern);
    let mut after = after.to_owned();
    let mut found = Vec::new();
    while found.len() <= length {
        // One more file shows that there is a next page. A pattern may leave out most files.
        let missing = length + 1 - found.len();
        let limit = if pattern.is_some() { missing.max(FILES_PER_CALL) } else { missing };
        let request = ListRequest {
            run_id: run_id.to_owned(),
            path_prefix: path_prefix.clone(),
            after,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        let files = list_artifacts(&context.channels, request).await?;
        let last = files.last().filter(|_| files.len() >= limit).map(|file| file.path.clone());
        found.extend(files.into_iter().filter(|file| is_listed(file, pattern)));
        let Some(last) = last else { break };
        after = last;
        if after.starts_with(ARTIFACT_FOLDER) {
            after = after.max(end_of_artifacts());
        }
    }
    let has_next = found.len() > length;
    found.truncate(length);
    Ok((found, has_next))
}

fn file_node(context: &CallContext, run: &Node, file: &Artifact, size: u64) -> Result<Value> {
    let run_id = run.known(RUN_ID)?;
    let entity = run.known(ENTITY)?;
    let name = RunName { project: run_project(run)?.to_owned(), id: run.known("name")?.to_owned() };
    let url = read_url(context, entity, &name, &file.path);
    Ok(json!({
        RUN_ID: run_id,
        "_path": file.path,
        "id": format!("{run_id}/{}", file.path),
        "name": file.path,
        "displayName": file.path,
        "url": url,
        "directUrl": url,
        "sizeBytes": size,
        "mimetype": content_types::of_name(&file.path),
        "md5": null,
        "digest": null,
        // A client takes a file without this time for missing.
        "updatedAt": (file.logged_us != 0).then(|| time_text(file.logged_us)),
    }))
}

fn run_project(run: &Node) -> Result<&str> {
    run.get("project").get("name").and_then(Value::as_str).ok_or_else(|| WandbError::broken("project"))
}

/// The URL of a file of a run, to read it or to upload it.
pub(crate) async fn url(context: &CallContext, file: &Node, arguments: &Arguments) -> Result<Value> {
    if !arguments.flag("upload") {
        return Ok(file.get("url").clone());
    }
    let run_id = file.known(RUN_ID)?;
    let path = file.known("_path")?;
    check_not_of_artifacts(path)?;
    let upload = sign(context, run_id, path).await?;
    let mut batch = RunBatch::default();
    batch.announce(run_id, path);
    publish(&context.channels, run_id, batch).await?;
    Ok(upload.url.into())
}

/// The run and the path of a file, by the id that clients got. Files of artifacts are deleted with their run.
fn parsed_id(id: &str) -> Result<(&str, &str)> {
    match id.split_once('/') {
        Some((run_id, path)) if !path.is_empty() && !is_of_artifacts(path) => Ok((run_id, path)),
        _ => Err(WandbError::invalid(format!(
            "`{}` is not the id of a file of a run: send the `id` from a list of files",
            id.escape_debug()
        ))),
    }
}

/// Deletes files of runs. A missing file counts as deleted, because clients repeat requests.
pub(crate) async fn delete(context: &CallContext, arguments: &Arguments) -> Result<Value> {
    let input = arguments.input()?;
    let ids = input.texts("files")?.unwrap_or_default();
    checked_count(&ids)?;
    let files = ids.into_iter().map(parsed_id).collect::<Result<Vec<_>>>()?;
    // A file whose announcement is not applied yet would appear afterwards.
    let runs: BTreeSet<&str> = files.iter().map(|(run_id, _)| *run_id).collect();
    let waits = runs.into_iter().map(|run_id| wait_for_published(&context.channels, run_id));
    for visibility in call_all(CALLS_AT_A_TIME, waits).await? {
        visibility.check_visible()?;
    }
    let deletions = files.iter().map(|(run_id, path)| delete_file(context, run_id, path));
    call_all(CALLS_AT_A_TIME, deletions).await?;
    Ok(json!({"success": true}))
}

async fn delete_file(context: &CallContext, run_id: &str, path: &str) -> Result<()> {
    let request = DeleteRequest { run_id: run_id.to_owned(), path: path.to_owned() };
    match context.channels.artifacts().delete(request).await {
        Ok(_) => Ok(()),
        Err(status) if is_missing(&status) => Ok(()),
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_context::empty_context;

    #[test]
    fn patterns_follow_sql() {
        for (name, pattern, expected) in [
            ("a.json", "%.json", true),
            ("a.jsonl", "%.json", false),
            ("a.json", "_.json", true),
            ("", "%", true),
            ("abc", "a%b%c%", true),
            ("aXbYc", "a%c", true),
            ("abc", "abc_", false),
            ("", "", true),
            ("a", "", false),
        ] {
            let chars = pattern_chars(pattern).unwrap();
            assert_eq!(is_like(name, &chars), expected, "{name} {pattern}");
        }
        let error = pattern_chars(&"%".repeat(ARTIFACT_PATH_BYTES + 1)).unwrap_err();
        assert!(error.message.contains("`pattern`"), "{error}");
    }

    #[tokio::test]
    async fn unknown_sizes_are_asked_for_some_at_a_time() {
        let (context, counts) = empty_context();
        let file = |number: u64| ListedFile {
            run_id: "r:p",
            path: format!("{number}"),
            size: number.is_multiple_of(3).then_some(number),
        };
        let files: Vec<ListedFile<'_>> = (0..60).map(file).collect();
        let sizes = known_sizes(&context, &files).await.unwrap();
        let expected: Vec<Option<u64>> = files.iter().map(|file| file.size).collect();
        assert_eq!(sizes, expected, "a file that has not arrived has no size");
        assert_eq!(counts.total_and_most(), (40, CALLS_AT_A_TIME));
    }

    #[test]
    fn rule_111_files_of_artifacts_are_not_uploaded_as_files_of_their_run() {
        for file in ["a", "wandb-artifacts.txt", "a/wandb-artifacts/x"] {
            assert_eq!(run_file_path(file).unwrap(), file);
        }
        for file in ["wandb-artifacts", "wandb-artifacts/x/a", "./wandb-artifacts/x/a", "wandb-artifacts\\x"]
        {
            let error = run_file_path(file).unwrap_err();
            assert!(error.message.contains("folder of the files of artifacts"), "{file} {error}");
        }
    }

    #[test]
    fn only_files_of_runs_have_ids_to_delete() {
        assert_eq!(parsed_id("r:p/media/a.png").unwrap(), ("r:p", "media/a.png"));
        for wrong in ["", "r:p", "r:p/", "r:p/wandb-artifacts", "r:p/wandb-artifacts/x/a"] {
            parsed_id(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_connection_names_the_start_of_the_next_page() {
        let connection = connection(vec![json!(1), json!(2)], 4, 9);
        assert_eq!(connection["pageInfo"], json!({"endCursor": "6", "hasNextPage": true}));
        assert_eq!(connection["edges"][1], json!({"node": 2, "cursor": "6"}));
        let connection = page_connection(vec![json!(1)], 4, 3, 9);
        assert_eq!(
            connection["pageInfo"],
            json!({"endCursor": "7", "hasNextPage": true}),
            "two have no node"
        );
        assert_eq!(connection["edges"][0]["cursor"], "7", "the next page begins after both");
        for start in [4, usize::MAX] {
            let connection = page_connection(Vec::new(), start, 10, 9);
            assert_eq!(connection["pageInfo"], json!({"endCursor": "9", "hasNextPage": false}), "{start}");
        }
    }
}
