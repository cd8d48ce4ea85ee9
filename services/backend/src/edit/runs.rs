//! Runs: reading, changing, and deleting them.

mod artifacts;
mod batch_get;
mod bin;
mod change;
mod delete;
mod links;
mod list;
mod params;
pub(crate) mod watch;

pub(crate) use {
    artifacts::delete_artifacts,
    delete::{clear_tombstone, delete_batch},
};

use matyan_proto::{
    limits,
    runs::v1::{self as pb, run_service_server::RunService},
};
use tonic::{Request, Response};

use self::{change::SkippedRuns, delete::DeletedBatch};
use crate::{
    changes::Watches,
    server::{
        RpcResult, Server,
        audit::{RunList, audit_no_effect, audit_resource},
        convert,
        large_runs::LargeRunStream,
        stream::ResponseStream,
    },
    view::{EntityNames, WantedSeries, first_piece, run_view},
};

/// The service of runs.
pub(crate) struct RunApi {
    server: Server,
    watches: Watches,
}

impl RunApi {
    pub(crate) fn new(server: Server, watches: Watches) -> Self {
        Self { server, watches }
    }
}

#[tonic::async_trait]
impl RunService for RunApi {
    type BatchGetStream = LargeRunStream<pb::BatchGetResponse>;
    type ListBinStream = ResponseStream<pb::ListBinResponse>;
    type WatchStream = ResponseStream<pb::WatchResponse>;

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let parts = convert::parts(request.parts)?;
        let types: Vec<_> = parts.series_types().collect();
        let wanted = WantedSeries::of(&parts);
        let (found, _turn) = self.server.find_run_with_series(&call, &request.run_id, &types, wanted).await?;
        let run = run_view(&self.server.deps, &mut EntityNames::new(&call), &found, &parts).await?;
        Ok(Response::new(pb::GetResponse { run: Some(first_piece(run)) }))
    }

    async fn batch_get(&self, request: Request<pb::BatchGetRequest>) -> RpcResult<Self::BatchGetStream> {
        let (call, request) = self.server.start_call(request).await?;
        convert::check_limit("run_ids", request.run_ids.len(), limits::RUNS_PER_CALL)?;
        let parts = convert::parts(request.parts)?;
        let server = self.server.clone();
        let run_ids = request.run_ids;
        let origin = call.origin.clone();
        Ok(Response::new(self.server.large_runs.stream(origin, |mut room| {
            self.server.respond(async move |sender| {
                batch_get::send(&server, &call, run_ids, &parts, &sender, &mut room).await
            })
        })))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<pb::ListResponse> {
        let (call, request) = self.server.start_call(request).await?;
        Ok(Response::new(list::list(&self.server.deps, &call, request).await?))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let updated_us = change::update(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::UpdateResponse { updated_us }))
    }

    async fn delete_params(
        &self,
        request: Request<pb::DeleteParamsRequest>,
    ) -> RpcResult<pb::DeleteParamsResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let paths: Vec<_> = request.paths.iter().map(|path| path.segments.join(".")).collect();
        audit_resource(format_args!("{} params: {}", request.run_id, paths.join(" ")));
        params::delete(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::DeleteParamsResponse {}))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let run_id = request.run_id;
        audit_resource(&run_id);
        let position = delete::delete(&self.server.deps, &call, &run_id).await?;
        Ok(Response::new(pb::DeleteResponse { position: Some(position) }))
    }

    async fn delete_batch(
        &self,
        request: Request<pb::DeleteBatchRequest>,
    ) -> RpcResult<pb::DeleteBatchResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let run_ids = request.run_ids;
        convert::check_limit("run_ids", run_ids.len(), limits::RUNS_PER_CALL)?;
        audit_resource(RunList(&run_ids));
        let DeletedBatch { response, has_effect } =
            delete::delete_batch(&self.server.deps, &call, run_ids).await?;
        if !has_effect {
            audit_no_effect();
        }
        Ok(Response::new(response))
    }

    async fn bin_batch(&self, request: Request<pb::BinBatchRequest>) -> RpcResult<pb::BinBatchResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let run_ids = request.run_ids;
        convert::check_limit("run_ids", run_ids.len(), limits::RUNS_PER_CALL)?;
        audit_resource(RunList(&run_ids));
        let SkippedRuns { unknown, damaged } = bin::bin_all(&self.server.deps, &call, run_ids).await?;
        Ok(Response::new(pb::BinBatchResponse { unknown, damaged }))
    }

    async fn restore_batch(
        &self,
        request: Request<pb::RestoreBatchRequest>,
    ) -> RpcResult<pb::RestoreBatchResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let run_ids = request.run_ids;
        convert::check_limit("run_ids", run_ids.len(), limits::RUNS_PER_CALL)?;
        audit_resource(RunList(&run_ids));
        let SkippedRuns { unknown, damaged } = bin::restore_all(&self.server.deps, &call, run_ids).await?;
        Ok(Response::new(pb::RestoreBatchResponse { unknown, damaged }))
    }

    async fn list_bin(&self, request: Request<pb::ListBinRequest>) -> RpcResult<Self::ListBinStream> {
        let (call, request) = self.server.start_call(request).await?;
        let page = bin::BinPage::parse(call.project, &request)?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond(async move |sender| bin::send(&deps, &call, page, &sender).await),
        ))
    }

    async fn archive_batch(
        &self,
        request: Request<pb::ArchiveBatchRequest>,
    ) -> RpcResult<pb::ArchiveBatchResponse> {
        let (call, pb::ArchiveBatchRequest { run_ids, archived }) = self.server.start_call(request).await?;
        convert::check_limit("run_ids", run_ids.len(), limits::RUNS_PER_CALL)?;
        let update = pb::UpdateRequest { archived: Some(archived), ..pb::UpdateRequest::default() };
        let SkippedRuns { unknown, damaged } =
            change::update_all(&self.server.deps, &call, run_ids, &update).await?;
        Ok(Response::new(pb::ArchiveBatchResponse { unknown, damaged }))
    }

    async fn finish_batch(
        &self,
        request: Request<pb::FinishBatchRequest>,
    ) -> RpcResult<pb::FinishBatchResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let run_ids = request.run_ids;
        convert::check_limit("run_ids", run_ids.len(), limits::RUNS_PER_CALL)?;
        let update = pb::UpdateRequest { active: Some(false), ..pb::UpdateRequest::default() };
        let SkippedRuns { unknown, damaged } =
            change::update_all(&self.server.deps, &call, run_ids, &update).await?;
        Ok(Response::new(pb::FinishBatchResponse { unknown, damaged }))
    }

    async fn add_tag_batch(
        &self,
        request: Request<pb::AddTagBatchRequest>,
    ) -> RpcResult<pb::AddTagBatchResponse> {
        let (call, pb::AddTagBatchRequest { run_ids, tag }) = self.server.start_call(request).await?;
        let tag = links::TagLink::added(&self.server.deps, tag)?;
        let links::Outcome { skipped: SkippedRuns { unknown, damaged }, changed } =
            links::change_all(&self.server.deps, &call, run_ids, &tag).await?;
        Ok(Response::new(pb::AddTagBatchResponse { unknown, changed, damaged }))
    }

    async fn remove_tag_batch(
        &self,
        request: Request<pb::RemoveTagBatchRequest>,
    ) -> RpcResult<pb::RemoveTagBatchResponse> {
        let (call, pb::RemoveTagBatchRequest { run_ids, tag }) = self.server.start_call(request).await?;
        let tag = links::TagLink::removed(tag)?;
        let links::Outcome { skipped: SkippedRuns { unknown, damaged }, changed } =
            links::change_all(&self.server.deps, &call, run_ids, &tag).await?;
        Ok(Response::new(pb::RemoveTagBatchResponse { unknown, changed, damaged }))
    }

    async fn move_batch(&self, request: Request<pb::MoveBatchRequest>) -> RpcResult<pb::MoveBatchResponse> {
        let (call, pb::MoveBatchRequest { run_ids, experiment }) = self.server.start_call(request).await?;
        let target = links::ExperimentLink::new(&self.server.deps, experiment)?;
        let links::Outcome { skipped: SkippedRuns { unknown, damaged }, changed } =
            links::change_all(&self.server.deps, &call, run_ids, &target).await?;
        Ok(Response::new(pb::MoveBatchResponse { unknown, changed, damaged }))
    }

    async fn clear_tombstone(
        &self,
        request: Request<pb::ClearTombstoneRequest>,
    ) -> RpcResult<pb::ClearTombstoneResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let run_id = request.run_id;
        audit_resource(&run_id);
        let cleared = delete::clear_tombstone(&self.server.deps, &call, &run_id).await?;
        if !cleared {
            audit_no_effect();
        }
        Ok(Response::new(pb::ClearTombstoneResponse { cleared }))
    }

    async fn add_tag(&self, request: Request<pb::AddTagRequest>) -> RpcResult<pb::AddTagResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let tag_id = change::tag_add(&self.server.deps, &call, &request.run_id, &request.name).await?;
        Ok(Response::new(pb::AddTagResponse { tag_id }))
    }

    async fn remove_tag(&self, request: Request<pb::RemoveTagRequest>) -> RpcResult<pb::RemoveTagResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let removed = change::tag_remove(&self.server.deps, &call, &request.run_id, &request.tag_id).await?;
        Ok(Response::new(pb::RemoveTagResponse { removed }))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> RpcResult<Self::WatchStream> {
        let (call, request) = self.server.start_call(request).await?;
        let watch = watch::start(&self.server.deps, &self.watches, call, request).await?;
        Ok(Response::new(self.server.respond(async move |sender| watch.run(&sender).await)))
    }
}
