//! Lists the runs to back up: oldest first, one page at a time, each page from its own
//! snapshot. Runs created after the start of the list come last or not at all.

use matyan_model::{
    entity::{Entity, Experiment, entity_find},
    keys,
    run::{Document, runs_list},
};
use matyan_proto::{backup::v1 as pb, limits};
use matyan_store::Scan;

use crate::server::{
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

/// Documents in a page.
const PAGE: Scan = Scan { rows: 1_000, bytes: 4 << 20, ..Scan::DEFAULT };

pub(super) struct RunListing {
    named: Vec<String>,
    filter: Filter,
}

struct Filter {
    experiment: Option<String>,
    since_us: Option<i64>,
}

impl Filter {
    fn matches(&self, document: &Document) -> bool {
        let props = &document.props;
        // Runs in the bin may come back, also from a backup.
        !props.is_deleted()
            && self.experiment.as_ref().is_none_or(|id| props.experiment.as_ref() == Some(id))
            && self.since_us.is_none_or(|since| props.created_us >= since)
    }
}

impl RunListing {
    pub(super) async fn start(deps: &Deps, call: &Call, request: pb::ListRunsRequest) -> Result<Self> {
        convert::check_limit("run_ids", request.run_ids.len(), limits::RUNS_PER_CALL)?;
        let experiment = match request.experiment {
            name if name.is_empty() => None,
            name => Some(experiment(deps, call, name).await?),
        };
        let filter = Filter { experiment, since_us: request.since_us };
        let mut listing = Self { named: Vec::new(), filter };
        let is_named = !request.run_ids.is_empty();
        for run_id in request.run_ids {
            let found = deps.find_kept_run(call, &run_id).await?;
            if listing.filter.matches(&found.document) {
                listing.named.push(run_id);
            }
        }
        if is_named && listing.named.is_empty() {
            return Err(Error::InvalidRequest(
                "none of the named runs matches the experiment and the start time: change the filter".into(),
            ));
        }
        Ok(listing)
    }

    pub(super) async fn send(
        self,
        deps: &Deps,
        call: &Call,
        sender: &Sender<pb::ListRunsResponse>,
    ) -> Result<(), StreamEnd> {
        if !self.named.is_empty() {
            return sender.send(pb::ListRunsResponse { run_ids: self.named }).await;
        }
        let mut rest = Some(keys::documents(call.project));
        while let Some(range) = rest {
            let snapshot = deps.store.snapshot().await?;
            let page = runs_list(snapshot.as_ref(), call.project, &range, PAGE).await?;
            drop(snapshot);
            // A backup must not miss a run without notice.
            if let Some(number) = page.damaged.first() {
                let reason = format!("the document of run number {number} cannot be read");
                return Err(Error::Damaged(matyan_store::Error::corrupt(reason)).into());
            }
            let taken = page.runs.into_iter().filter(|(_, document)| self.filter.matches(document));
            let run_ids: Vec<_> = taken.map(|(_, document)| document.props.run_id).collect();
            if !run_ids.is_empty() {
                sender.send(pb::ListRunsResponse { run_ids }).await?;
            }
            rest = page.rest;
        }
        Ok(())
    }
}

async fn experiment(deps: &Deps, call: &Call, name: String) -> Result<String> {
    convert::check_limit("experiment", name.len(), limits::NAME_BYTES)?;
    let snapshot = deps.store.snapshot().await?;
    let found = entity_find(snapshot.as_ref(), call.project, Experiment::KIND, &name).await?;
    found.ok_or_else(|| Error::not_found("experiment", name))
}
