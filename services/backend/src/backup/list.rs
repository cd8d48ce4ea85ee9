//! Lists the runs to back up: oldest first, one page at a time, each page from a snapshot of
//! its own. Runs created in the meantime come last or not at all.

use matyan_model::{
    entity::{Entity, Experiment, entity_find},
    keys,
    run::{Document, runs_list},
};
use matyan_proto::{backup::v1 as pb, limits};
use matyan_store::Scan;

use crate::{
    Context,
    call::Call,
    convert,
    error::{Error, Result},
    stream::{End, Sender},
};

/// Documents in a page.
const PAGE: Scan = Scan { rows: 1_000, bytes: 4 << 20, reverse: false };

pub(super) struct Listing {
    named: Vec<String>,
    filter: Filter,
}

struct Filter {
    experiment: Option<String>,
    since_us: Option<i64>,
}

impl Filter {
    fn takes(&self, document: &Document) -> bool {
        let props = &document.props;
        !props.pending_delete
            && self.experiment.as_ref().is_none_or(|id| props.experiment.as_ref() == Some(id))
            && self.since_us.is_none_or(|since| props.created_us >= since)
    }
}

impl Listing {
    pub(super) async fn begin(context: &Context, call: &Call, request: pb::ListRunsRequest) -> Result<Self> {
        convert::at_most("run_ids", request.run_ids.len(), limits::RUNS_PER_CALL)?;
        let experiment = match request.experiment {
            name if name.is_empty() => None,
            name => Some(experiment(context, call, name).await?),
        };
        let filter = Filter { experiment, since_us: request.since_us };
        let mut listing = Self { named: Vec::new(), filter };
        let is_named = !request.run_ids.is_empty();
        for run_id in request.run_ids {
            let found = context.run(call, &run_id).await?;
            if listing.filter.takes(&found.document) {
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
        context: &Context,
        call: &Call,
        sender: &Sender<pb::ListRunsResponse>,
    ) -> Result<(), End> {
        if !self.named.is_empty() {
            return Ok(sender.send(pb::ListRunsResponse { run_ids: self.named }).await?);
        }
        let mut rest = Some(keys::documents(call.project));
        while let Some(range) = rest {
            let snapshot = context.store.snapshot().await?;
            let page = runs_list(snapshot.as_ref(), call.project, &range, PAGE).await?;
            drop(snapshot);
            let taken = page.runs.into_iter().filter(|(_, document)| self.filter.takes(document));
            let run_ids: Vec<_> = taken.map(|(_, document)| document.props.run_id).collect();
            if !run_ids.is_empty() {
                sender.send(pb::ListRunsResponse { run_ids }).await?;
            }
            rest = page.rest;
        }
        Ok(())
    }
}

async fn experiment(context: &Context, call: &Call, name: String) -> Result<String> {
    convert::at_most("experiment", name.len(), limits::NAME_BYTES)?;
    let snapshot = context.store.snapshot().await?;
    let found = entity_find(snapshot.as_ref(), call.project, Experiment::KIND, &name).await?;
    found.ok_or_else(|| Error::not_found("experiment", name))
}
