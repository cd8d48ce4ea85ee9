//! Answers requests of W&B's clients.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_graphql::dynamic::Schema;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, StatusCode};
use matyan_proto::artifacts::v1::GetRequest;
use matyan_proto::artifacts::v1::get_response::Message;
use matyan_wire::content_types;
use serde_json::json;
use tonic::Status;

use crate::budget::{AnswerMemory, AnswerShare, Budget};
use crate::call::{CallContext, GraphqlCall, PermitMaker};
use crate::document::{self, FieldTypes, check_text, default_variables};
use crate::error::{Result, WandbError};
use crate::file_by_digest::{self, FileDigest};
use crate::file_stream;
use crate::json_object::JsonObject;
use crate::json_text::check_request;
use crate::manifest::manifest_at;
use crate::manifest_cache::ManifestCache;
use crate::metered_channel::metered;
use crate::names::{RunName, file_path};
use crate::owner_hints::OwnerHints;
use crate::route::Route;
use crate::schema;
use matyan_channels::{Channels, LargeWork, is_missing};

/// Headers by which a writer names itself if its run has several writers.
const SHARED_MODE: &str = "x-wandb-use-async-filestream";
const WRITER: &str = "x-wandb-async-client-id";

/// The longest name of a writer: a UUID, with room.
const WRITER_BYTES: usize = 64;

/// A request, whose body was read.
#[derive(Debug)]
pub struct Request {
    pub route: Route,
    pub channels: Channels,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Scheme and host of the request, without a slash at the end.
    pub origin: String,
    /// The path of the project, such as `/p/team`; empty for the default project.
    pub project_path: String,
    /// The name of the caller; empty if the server asks for no credentials.
    pub user: String,
    /// The client that the memory of the answer counts for; `None` if it counts for no client.
    pub client: Option<String>,
    /// `None` if readers of URLs use their own credentials, or if the server asks for no credentials.
    pub permits: Option<PermitMaker>,
}

/// A successful answer, or an error of GraphQL.
#[derive(Debug)]
pub enum Answer {
    Json {
        status: StatusCode,
        body: String,
        /// Operations of the request that this server does not have, by names for metrics.
        unanswered: BTreeSet<&'static str>,
        /// Kept until the body is sent; `None` for an answer that is always small.
        share: Option<AnswerShare>,
    },
    /// No content, with this status.
    Empty,
    File(FileAnswer),
    /// Another page.
    Redirect {
        location: String,
    },
}

/// A file.
pub struct FileAnswer {
    pub content_type: String,
    pub size: Option<u64>,
    pub content: BoxStream<'static, Result<Bytes, Status>>,
}

impl std::fmt::Debug for FileAnswer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FileAnswer").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

/// Answers requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wandb {
    schema: Schema,
    types: Arc<FieldTypes>,
    memory: AnswerMemory,
    large_work: LargeWork,
    manifests: ManifestCache,
    owner_hints: OwnerHints,
}

impl Wandb {
    pub fn new(large_work: LargeWork) -> Self {
        let definitions = schema::definitions();
        let memory = AnswerMemory::default();
        Self {
            schema: schema::build(&definitions),
            types: Arc::new(FieldTypes::new(&definitions)),
            manifests: ManifestCache::new(memory.clone()),
            owner_hints: OwnerHints::default(),
            memory,
            large_work,
        }
    }

    /// The names of all operations that an answer may report as unanswered.
    pub fn unanswered_operations() -> impl Iterator<Item = &'static str> {
        document::unanswered_operations()
    }

    pub async fn answer(&self, request: Request) -> Result<Answer> {
        let Request { route, channels, headers, body, origin, project_path, user, client, permits } = request;
        let context = CallContext {
            channels,
            base_url: format!("{origin}{project_path}"),
            origin,
            user,
            permits,
            budget: Arc::new(Budget::of_client(self.memory.clone(), client)),
            large_work: self.large_work.clone(),
            manifests: self.manifests.clone(),
            owner_hints: self.owner_hints.clone(),
        };
        match route {
            Route::Graphql => self.execute(context, body).await,
            Route::FileStream { project, run } => {
                let name = RunName::new(&project, &run)?;
                let answer = file_stream::append(&context, &name, writer(&headers)?.as_deref(), body).await?;
                Ok(Answer::Json {
                    status: StatusCode::OK,
                    body: answer.to_string(),
                    unanswered: BTreeSet::new(),
                    share: None,
                })
            }
            Route::File { project, run, path } => {
                let name = RunName::new(&project, &run)?;
                let path = file_path(&path)?;
                let manifest = manifest_at(&context, &name, &path).await?;
                match manifest {
                    Some(text) => Ok(Answer::File(held_file(&path, text, context.budget))),
                    None => read_file(&context, &name, &path).await.map(Answer::File),
                }
            }
            Route::FileByDigest { collection, version, digest } => {
                let file = FileDigest { collection: collection.as_ref(), owner: &version, digest: &digest };
                let (run_id, path) = find_file(&context, file).await?;
                let found = open_file(&context, run_id, &path).await;
                found.map(Answer::File).map_err(|status| reading_error(status, &path))
            }
            Route::FileOfUnknownVersion => {
                Err(WandbError::missing("the path names no version of an artifact"))
            }
            Route::NameNotUtf8 => Err(WandbError::missing(
                "a name in the path is not UTF-8: encode it with percent signs as UTF-8",
            )),
            Route::ClientTelemetry => Ok(Answer::Empty),
            Route::RunPage { project, run } => {
                let name = RunName::new(&project, &run)?;
                let id =
                    percent_encoding::utf8_percent_encode(&name.run_id(), percent_encoding::NON_ALPHANUMERIC)
                        .to_string();
                Ok(Answer::Redirect { location: format!("{project_path}/runs/{id}") })
            }
        }
    }

    async fn execute(&self, mut context: CallContext, body: Bytes) -> Result<Answer> {
        let bytes = body.len();
        let mut request = self.large_work.run(bytes, move || parsed_request(&body)).await?;
        // Some clients send an empty name for an operation without a name.
        request.operation_name = request.operation_name.filter(|name| !name.is_empty());
        let operation = request.operation_name.clone();
        let mut unanswered = BTreeSet::new();
        let mut defaults = Vec::new();
        let checked = check_text(&request.query).and_then(|()| match request.parsed_query() {
            Ok(document) => {
                defaults = default_variables(document, operation.as_deref());
                let checked = self.types.check(document);
                unanswered = checked.unanswered;
                checked.problem.map_or(Ok(()), Err)
            }
            Err(error) => Err(error.message),
        });
        if let Err(message) = checked {
            return Ok(refused_document(&message, unanswered));
        }
        for (name, value) in defaults {
            request.variables.entry(name).or_insert(value);
        }
        context.channels = metered(context.channels, &context.budget);
        let call = Arc::new(GraphqlCall::new(context));
        let response = self.schema.execute(request.data(Arc::clone(&call))).await;
        // A client would mistake a part of an answer for the whole answer.
        if let Some(refusal) = call.context.budget.refusal() {
            return Ok(Answer::Json {
                status: refusal.status,
                body: refusal.body(),
                unanswered,
                share: None,
            });
        }
        let status = call.status().unwrap_or(StatusCode::OK);
        let held = call.context.budget.held();
        let body = self.large_work.run(held, move || written(&response)).await?;
        let share = AnswerShare::new(Arc::clone(&call.context.budget), body.len());
        Ok(Answer::Json { status, body, unanswered, share: Some(share) })
    }
}

fn parsed_request(body: &[u8]) -> Result<async_graphql::Request> {
    check_request(body)?;
    let JsonObject(request) = serde_json::from_slice(body).map_err(|error| {
        WandbError::invalid(format!(
            "the body is not a request of GraphQL: {error}; send an object with `query` and `variables`"
        ))
    })?;
    Ok(request)
}

fn written(response: &async_graphql::Response) -> Result<String> {
    serde_json::to_string(response).map_err(|error| {
        tracing::error!(%error, "failed to write an answer of GraphQL");
        WandbError::broken("response")
    })
}

/// The answer to a document that is not executed. It has the status that W&B's server sends for such documents, which
/// clients do not repeat.
fn refused_document(message: &str, unanswered: BTreeSet<&'static str>) -> Answer {
    let body = json!({"data": null, "errors": [{"message": message}]}).to_string();
    Answer::Json { status: StatusCode::BAD_REQUEST, body, unanswered, share: None }
}

/// The writer that has sent a request, if its run has several writers.
fn writer(headers: &HeaderMap) -> Result<Option<String>> {
    let is_shared =
        headers.get(SHARED_MODE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let Some(value) = headers.get(WRITER).filter(|_| is_shared) else { return Ok(None) };
    let writer = value.to_str().ok().filter(|writer| !writer.is_empty() && writer.len() <= WRITER_BYTES);
    let writer = writer.ok_or_else(|| WandbError::invalid(format!("the header `{WRITER}` is not an id")))?;
    Ok(Some(writer.to_owned()))
}

/// The run and the path of a file, found at the cost of the budget.
async fn find_file(context: &CallContext, file: FileDigest<'_>) -> Result<(String, String)> {
    let channels = metered(context.channels.clone(), &context.budget);
    let found = file_by_digest::find(&CallContext { channels, ..context.clone() }, file).await;
    match context.budget.refusal() {
        Some(refusal) => Err(refusal.clone()),
        None => found,
    }
}

/// A file whose content is in memory, until the body is dropped.
fn held_file(path: &str, content: Bytes, budget: Arc<Budget>) -> FileAnswer {
    let content_type = content_types::of_name(path).to_owned();
    let size = Some(content.len() as u64);
    let share = AnswerShare::new(budget, content.len());
    let content = stream::iter([Ok(content)]).map(move |chunk| {
        let _kept = &share;
        chunk
    });
    FileAnswer { content_type, size, content: content.boxed() }
}

async fn read_file(context: &CallContext, name: &RunName, path: &str) -> Result<FileAnswer> {
    let found = match open_file(context, name.run_id(), path).await {
        // A run that another client has made has its own id.
        Err(status) if is_missing(&status) => open_file(context, name.id.clone(), path).await,
        found => found,
    };
    found.map_err(|status| reading_error(status, path))
}

fn reading_error(status: Status, path: &str) -> WandbError {
    if is_missing(&status) {
        WandbError::missing(format!(
            "the run has no file `{}`: list its files, or wait until the file is uploaded",
            path.escape_debug()
        ))
    } else {
        status.into()
    }
}

/// Opens a file of a run, with the id of the run here.
async fn open_file(context: &CallContext, run_id: String, path: &str) -> Result<FileAnswer, Status> {
    let request = GetRequest { run_id, path: path.to_owned(), offset: 0, length: None };
    let mut messages = context.channels.artifacts().get(request).await?.into_inner();
    let Some(Message::Artifact(artifact)) = messages.message().await?.and_then(|message| message.message)
    else {
        return Err(Status::internal("a file without its description"));
    };
    let chunks = messages.try_filter_map(|message| async move {
        Ok(match message.message {
            Some(Message::Chunk(chunk)) => Some(chunk),
            Some(Message::Artifact(_)) | None => None,
        })
    });
    Ok(FileAnswer { content_type: artifact.content_type, size: artifact.size, content: chunks.boxed() })
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use matyan_channels::Channel;
    use tower::BoxError;

    use super::*;

    /// An answer that a client does not read stays in memory until its connection ends.
    #[test]
    fn rule_114_an_answer_takes_up_memory_until_it_is_dropped() {
        let unused = || {
            let call = |_: http::Request<tonic::body::Body>| async {
                Err::<http::Response<tonic::body::Body>, BoxError>("no service is called".into())
            };
            Channel::new(tower::service_fn(call))
        };
        let wandb = Wandb::new(LargeWork::new());
        let request = Request {
            route: Route::Graphql,
            channels: Channels { backend: unused(), frontier: unused() },
            headers: HeaderMap::new(),
            body: Bytes::from_static(br#"{"query": "{ viewer { id username } }"}"#),
            origin: "http://localhost".to_owned(),
            project_path: String::new(),
            user: "ana".to_owned(),
            client: Some("ana".to_owned()),
            permits: None,
        };
        let answer = block_on(wandb.answer(request));
        let Ok(Answer::Json { status, body, share, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!((status, body.contains("ana")), (StatusCode::OK, true), "{body}");
        let bytes = u64::try_from(body.len()).unwrap();
        assert_eq!((wandb.memory.taken(), wandb.memory.taken_by("ana")), (bytes, bytes));
        drop(share);
        assert_eq!(wandb.memory.taken(), 0);
    }

    #[test]
    fn a_body_that_is_not_a_request_is_refused() {
        for wrong in ["", "7", "{", r#"{"query": 7}"#] {
            let error = parsed_request(wrong.as_bytes()).unwrap_err();
            assert!(error.message.contains("send an object with `query`"), "{wrong} {error}");
        }
        assert_eq!(parsed_request(br#"{"query": "{ viewer { id } }"}"#).unwrap().query, "{ viewer { id } }");
    }

    #[test]
    fn a_writer_names_itself_in_shared_mode_only() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            writer(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[(WRITER, "a")]), Ok(None));
        assert_eq!(of(&[(SHARED_MODE, "true"), (WRITER, "a")]), Ok(Some("a".to_owned())));
        assert!(of(&[(SHARED_MODE, "true"), (WRITER, "")]).is_err());
        assert!(of(&[(SHARED_MODE, "true"), (WRITER, &"a".repeat(65))]).is_err());
    }
}
