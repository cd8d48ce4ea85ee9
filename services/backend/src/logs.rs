//! Terminal lines and log records: a range of them, and optionally the lines or records that are
//! written while the run is active.

mod follow;
mod records;

use matyan_model::{
    ids::RunNumber,
    logs::{LogScan, TerminalLine, terminal_lines_list},
    run::{WritingState, writing_get},
    series::StepRange,
};
use matyan_proto::logs::v1::{self as pb, log_service_server::LogService};
use matyan_store::Snapshot;
use tonic::{Request, Response};

use crate::server::{
    RpcResult, Server,
    call::Call,
    deps::Deps,
    error::Error,
    stream::{ResponseStream, Sender, StreamEnd},
};
use follow::{BacklogRange, Follower};
use records::{MESSAGE_SCAN, line};

/// Lines or records sent when the request gives no range.
const DEFAULT_TAIL: u32 = 200;

/// The service of logs.
pub(crate) struct LogApi {
    server: Server,
}

impl LogApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl LogService for LogApi {
    type LinesStream = ResponseStream<pb::LinesResponse>;
    type RecordsStream = ResponseStream<pb::RecordsResponse>;

    async fn lines(&self, request: Request<pb::LinesRequest>) -> RpcResult<Self::LinesStream> {
        let (call, request) = self.server.start_call(request).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond(async move |sender| send_lines(&deps, &call, &request, &sender).await),
        ))
    }

    async fn records(&self, request: Request<pb::RecordsRequest>) -> RpcResult<Self::RecordsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond(async move |sender| send_records(&deps, &call, &request, &sender).await),
        ))
    }
}

/// Sends the lines from `first` in pieces, each read from its own snapshot, because lines are
/// independent of each other. A follower gets the lines present when the call arrived, and then
/// the lines written since.
pub(crate) async fn send_lines(
    deps: &Deps,
    call: &Call,
    request: &pb::LinesRequest,
    sender: &Sender<pb::LinesResponse>,
) -> Result<(), StreamEnd> {
    let Some(found) = deps.try_find_run(call, &request.run_id).await? else {
        sender.send(pb::LinesResponse::default()).await?;
        return Ok(());
    };
    let snapshot = found.snapshot.as_ref();
    let last_step = last_line(snapshot, call, found.number).await?;
    let written = writing_get(snapshot, call.project, found.number).await?.next_line;
    let number = found.number;
    drop(found);
    // A range without bounds is the same as no range.
    let requested = request.steps.filter(|steps| steps.start.is_some() || steps.stop.is_some());
    let requested_steps = requested.map(StepRange::from);
    let mut backlog = match (requested_steps, last_step) {
        (Some(steps), _) => steps,
        (None, Some(last)) => StepRange::new(last.saturating_sub(tail(request.tail) - 1), last),
        (None, None) => StepRange::ALL,
    };
    let wanted = requested_steps.unwrap_or(StepRange::ALL);
    let mut follower = Follower::new(call.project, number, wanted, written, last_step);
    if request.follow {
        // Lines written from now on are sent while following.
        backlog.last = last_step.map_or(i64::MIN, |last| backlog.last.min(last));
    }
    let mut rest = Some(backlog);
    let mut is_first = true;
    while let Some(steps) = rest {
        let (listed, writes) = read_lines(deps, call, number, steps).await?;
        rest = listed
            .last()
            .filter(|line| line.number < steps.last)
            .map(|line| StepRange { first: line.number + 1, last: steps.last });
        let read_to = rest.map_or(steps.last, |rest| rest.first - 1);
        follower.add_backlog(BacklogRange { first: steps.first, last: read_to, writes });
        // The first message is sent even without lines, because it contains the last
        // step.
        if is_first || !listed.is_empty() {
            let lines = listed.into_iter().map(line).collect();
            sender.send(pb::LinesResponse { lines, last_step }).await?;
        }
        is_first = false;
    }
    if request.follow { follower.lines(deps, sender).await } else { Ok(()) }
}

/// A piece of the lines, with the number of writes at the time of reading.
async fn read_lines(
    deps: &Deps,
    call: &Call,
    number: RunNumber,
    steps: StepRange,
) -> Result<(Vec<TerminalLine>, u64), Error> {
    let snapshot = deps.store.snapshot().await?;
    let writes = writing_get(snapshot.as_ref(), call.project, number).await?.next_line;
    if steps.is_empty() {
        return Ok((Vec::new(), writes));
    }
    let range = (steps.first, steps.last);
    let lines = terminal_lines_list(snapshot.as_ref(), call.project, number, range, MESSAGE_SCAN).await?;
    Ok((lines, writes))
}

fn tail(requested: u32) -> i64 {
    i64::from(if requested == 0 { DEFAULT_TAIL } else { requested })
}

async fn last_line(snapshot: &dyn Snapshot, call: &Call, number: RunNumber) -> Result<Option<i64>, Error> {
    let last = LogScan { count: 1, bytes: 1, last: true };
    let lines = terminal_lines_list(snapshot, call.project, number, (i64::MIN, i64::MAX), last).await?;
    Ok(lines.last().map(|line| line.number))
}

/// Sends records like `send_lines`. They are numbered from 0 without gaps and never change, so
/// the number alone identifies the new records.
pub(crate) async fn send_records(
    deps: &Deps,
    call: &Call,
    request: &pb::RecordsRequest,
    sender: &Sender<pb::RecordsResponse>,
) -> Result<(), StreamEnd> {
    let Some(found) = deps.try_find_run(call, &request.run_id).await? else {
        sender.send(pb::RecordsResponse::default()).await?;
        return Ok(());
    };
    let writing: WritingState = writing_get(found.snapshot.as_ref(), call.project, found.number).await?;
    let number = found.number;
    drop(found);
    let sequence = |step: i64| u64::try_from(step).unwrap_or_default();
    let requested = request.steps.filter(|steps| steps.start.is_some() || steps.stop.is_some());
    let wanted = match requested.map(StepRange::from) {
        Some(steps) if steps.is_empty() => 0..0,
        Some(steps) => sequence(steps.first)..sequence(steps.last.saturating_add(1)),
        None => writing.next_log_record.saturating_sub(sequence(tail(request.tail)))..u64::MAX,
    };
    let backlog = wanted.start..wanted.end.min(writing.next_log_record);
    follow::send_records(
        deps,
        (call.project, number),
        backlog.clone(),
        writing.next_log_record,
        true,
        sender,
    )
    .await?;
    if request.follow {
        let next = wanted.start.max(writing.next_log_record)..wanted.end;
        return follow::records(deps, (call.project, number), next, sender).await;
    }
    Ok(())
}
