//! Terminal lines and log records: a range of them, and what comes while the run is active.

use matyan_model::{
    ids::RunNumber,
    logs::{LogScan, log_records_list, terminal_lines_list},
    run::writing_get,
    series::StepRange,
};
use matyan_proto::logs::v1::{self as pb, log_service_server::LogService};
use tonic::{Request, Response, Status};

use crate::{
    Backend, Context,
    call::Call,
    convert,
    error::Error,
    stream::{Answers, End, Sender, answers},
};

/// Lines or records that are sent when no range is asked for.
const TAIL: u32 = 200;

/// One message: some 1 MB.
const PIECE: LogScan = LogScan { count: 10_000, bytes: 1 << 20, last: false };

#[tonic::async_trait]
impl LogService for Backend {
    type LinesStream = Answers<pb::LinesResponse>;
    type RecordsStream = Answers<pb::RecordsResponse>;

    async fn lines(&self, request: Request<pb::LinesRequest>) -> Result<Response<Self::LinesStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        if request.follow {
            return Err(Error::Unimplemented("following a log").into());
        }
        let context = self.context.clone();
        Ok(Response::new(answers(async move |sender| send_lines(&context, &call, &request, &sender).await)))
    }

    async fn records(
        &self,
        request: Request<pb::RecordsRequest>,
    ) -> Result<Response<Self::RecordsStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        if request.follow {
            return Err(Error::Unimplemented("following a log").into());
        }
        let context = self.context.clone();
        Ok(Response::new(answers(async move |sender| send_records(&context, &call, &request, &sender).await)))
    }
}

/// The lines from `first` on in pieces, each read from a snapshot of its own: lines do not depend on each other.
async fn send_lines(
    context: &Context,
    call: &Call,
    request: &pb::LinesRequest,
    sender: &Sender<pb::LinesResponse>,
) -> Result<(), End> {
    let Some(found) = context.run_if_there(call, &request.run_id).await? else {
        sender.send(pb::LinesResponse::default()).await?;
        return Ok(());
    };
    let last_step = last_line(found.snapshot.as_ref(), call, found.number).await?;
    let number = found.number;
    drop(found);
    let asked = request.steps.filter(|steps| steps.start.is_some() || steps.stop.is_some());
    let mut steps = match (asked, last_step) {
        (Some(steps), _) => convert::steps(Some(&steps)),
        (None, Some(last)) => StepRange::new(last.saturating_sub(tail(request.tail) - 1), last),
        (None, None) => StepRange::ALL,
    };
    let mut is_first = true;
    loop {
        let snapshot = context.store.snapshot().await?;
        let listed =
            terminal_lines_list(snapshot.as_ref(), call.project, number, (steps.first, steps.last), PIECE)
                .await?;
        drop(snapshot);
        let next = listed.last().map(|line| line.number.checked_add(1));
        let lines: Vec<_> =
            listed.into_iter().map(|line| pb::Line { step: line.number, text: line.text }).collect();
        if is_first || !lines.is_empty() {
            sender.send(pb::LinesResponse { lines, last_step }).await?;
        }
        is_first = false;
        match next {
            Some(Some(first)) if first <= steps.last => steps.first = first,
            _ => return Ok(()),
        }
    }
}

fn tail(asked: u32) -> i64 {
    i64::from(if asked == 0 { TAIL } else { asked })
}

async fn last_line(
    snapshot: &dyn matyan_store::Snapshot,
    call: &Call,
    number: RunNumber,
) -> Result<Option<i64>, Error> {
    let last = LogScan { count: 1, bytes: 1, last: true };
    let lines = terminal_lines_list(snapshot, call.project, number, (i64::MIN, i64::MAX), last).await?;
    Ok(lines.last().map(|line| line.number))
}

/// As `send_lines`. Records are numbered from 0 without gaps, so that their count is known.
async fn send_records(
    context: &Context,
    call: &Call,
    request: &pb::RecordsRequest,
    sender: &Sender<pb::RecordsResponse>,
) -> Result<(), End> {
    let Some(found) = context.run_if_there(call, &request.run_id).await? else {
        sender.send(pb::RecordsResponse::default()).await?;
        return Ok(());
    };
    let count = writing_get(found.snapshot.as_ref(), call.project, found.number).await?.next_log_record;
    let number = found.number;
    drop(found);
    let asked = request.steps.filter(|steps| steps.start.is_some() || steps.stop.is_some());
    let sequence = |step: i64| u64::try_from(step).unwrap_or_default();
    let (mut first, end) = match asked.map(|steps| convert::steps(Some(&steps))) {
        Some(steps) if steps.is_empty() => (0, 0),
        Some(steps) => (sequence(steps.first), sequence(steps.last.saturating_add(1)).min(count)),
        None => (count.saturating_sub(sequence(tail(request.tail))), count),
    };
    let mut is_first = true;
    while is_first || first < end {
        let snapshot = context.store.snapshot().await?;
        let range = first..end.max(first);
        let listed = log_records_list(snapshot.as_ref(), call.project, number, range, PIECE).await?;
        drop(snapshot);
        first = listed.last().map_or(end, |(sequence, _)| sequence + 1);
        let records = listed.into_iter().map(record).collect();
        sender.send(pb::RecordsResponse { records, count }).await?;
        is_first = false;
    }
    Ok(())
}

fn record((sequence, record): (u64, matyan_model::logs::LogRecord)) -> pb::Record {
    pb::Record {
        step: i64::try_from(sequence).unwrap_or(i64::MAX),
        message: record.message,
        level: record.level,
        timestamp: record.timestamp,
        logger_info: record.logger_info.into(),
        args: record.extra_args.into(),
    }
}
