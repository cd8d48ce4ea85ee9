//! Watching the first runs of a search. Which they are is read from the table of the project after
//! every change.

use std::collections::{HashMap, HashSet};

use matyan_model::ids::RunNumber;
use matyan_proto::{
    limits,
    search::v1::{RunOrder, RunsRequest, WatchRunsRequest, WatchRunsResponse},
};
use prost::Message;
use tokio::time::Instant;

use super::run_request::RunSearch;
use crate::{
    changes::{DueRun, LiveEvent, LiveEvents, NUMBER_BYTES, RunChanges, Watches},
    query::{catalog::Catalog, table::PageStart},
    server::{
        call::Call,
        convert,
        error::{Error, Result},
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
    view::EntityNames,
};

pub(crate) struct RunsWatch {
    catalog: Catalog,
    call: Call,
    request: RunsRequest,
    events: LiveEvents,
    runs: RunChanges,
    /// In order.
    shown: Vec<(RunNumber, String)>,
}

pub(crate) async fn start(
    catalog: &Catalog,
    watches: &Watches,
    call: Call,
    request: WatchRunsRequest,
) -> Result<RunsWatch> {
    if request.limit == 0 {
        return Err(Error::field("limit", "is 0: give at least 1"));
    }
    convert::check_limit("limit", request.limit as usize, limits::RUNS_PER_CALL)?;
    let settle = convert::settle_time(request.settle_ms)?;
    let parts = convert::parts(request.parts)?;
    let WatchRunsRequest { query, sort, limit, .. } = request;
    let list = RunsRequest { query, sort, limit, ids_only: true, ..RunsRequest::default() };
    // Checks the query and the order.
    RunSearch::new(catalog, call.again(), list.clone()).await?;
    let mut watch = RunsWatch {
        events: watches.watch_from_now(&call, settle).await?,
        runs: RunChanges::new(catalog.deps.clone(), call.again(), parts, request.progress),
        catalog: catalog.clone(),
        call,
        request: list,
        shown: Vec::new(),
    };
    watch.account()?;
    Ok(watch)
}

impl RunsWatch {
    pub(crate) async fn run(mut self, sender: &Sender<WatchRunsResponse>) -> Result<(), StreamEnd> {
        self.send_changes(&HashMap::new(), true, sender).await?;
        loop {
            self.account()?;
            match self.events.next(sender).await? {
                // Any run may become one of the first.
                LiveEvent::Changes(changes) => {
                    for change in changes {
                        self.events.add(change);
                    }
                }
                LiveEvent::RunsDue => {
                    let due = self.events.take_due(Instant::now(), usize::MAX);
                    let changed = due.into_iter().map(|run| (run.number, run)).collect();
                    self.send_changes(&changed, false, sender).await?;
                }
                LiveEvent::KeepAliveDue => {
                    self.call.check_project(&self.catalog.deps).await?;
                    sender.send(WatchRunsResponse::default()).await?;
                    self.events.mark_sent();
                }
            }
        }
    }

    /// Takes memory for the remembered state.
    fn account(&mut self) -> Result<()> {
        let ids: usize = self.shown.iter().map(|(_, run_id)| NUMBER_BYTES + run_id.len()).sum();
        self.events.remember(self.request.encoded_len() + ids + self.runs.remembered_bytes())
    }

    /// Sends the changes. The first message is sent even if no run matches.
    async fn send_changes(
        &mut self,
        changed: &HashMap<RunNumber, DueRun>,
        is_first: bool,
        sender: &Sender<WatchRunsResponse>,
    ) -> Result<(), StreamEnd> {
        let found = self.first_runs().await?;
        let is_other_order = is_first || found != self.shown;
        let before = std::mem::replace(&mut self.shown, found);
        let were_shown: HashSet<RunNumber> = before.iter().map(|(number, _)| *number).collect();
        let are_shown: HashSet<RunNumber> = self.shown.iter().map(|(number, _)| *number).collect();
        let left = before.into_iter().filter(|(number, _)| !are_shown.contains(number));
        let mut changes: Vec<_> = left.map(|(number, run_id)| self.runs.left(number, run_id)).collect();
        let mut names = EntityNames::new(&self.call);
        let mut bytes = 0;
        for (number, _) in &self.shown {
            let due = match changed.get(number) {
                Some(due) => *due,
                None if were_shown.contains(number) => continue,
                None => DueRun { number: *number, shared_points: false },
            };
            // A run that was just deleted leaves with its next change.
            let Some(change) = self.runs.read(&mut names, due).await? else { continue };
            bytes += change.encoded_len();
            changes.push(change);
            if bytes >= MESSAGE_BYTES {
                bytes = 0;
                let changes = std::mem::take(&mut changes);
                sender.send(WatchRunsResponse { changes, order: None }).await?;
            }
        }
        if is_other_order || !changes.is_empty() {
            let run_ids = || self.shown.iter().map(|(_, run_id)| run_id.clone()).collect();
            let order = is_other_order.then(|| RunOrder { run_ids: run_ids() });
            sender.send(WatchRunsResponse { changes, order }).await?;
            self.events.mark_sent();
        }
        Ok(())
    }

    /// The first runs now, with their ids.
    async fn first_runs(&self) -> Result<Vec<(RunNumber, String)>> {
        let Catalog { deps, tables, .. } = &self.catalog;
        let search = RunSearch::new(&self.catalog, self.call.again(), self.request.clone()).await?;
        let selection = search.selection().await?;
        let limit = self.request.limit as usize;
        Ok(tables.page(deps, &selection, PageStart::Position(0), limit).await?.runs)
    }
}
