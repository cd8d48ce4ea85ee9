//! Quotas of projects, which calls that bring data check.

use matyan_model::project_quota::ProjectQuotas;
use matyan_proto::project::v1::ExceededQuota;
use matyan_store::Transaction;

use super::{call::Call, error::Result};

/// Returns a quota that the project of a call has used up. The commit does not check the counters: quotas are soft.
pub(crate) async fn exceeded(
    quotas: &ProjectQuotas,
    transaction: &Transaction,
    call: &Call,
) -> Result<Option<ExceededQuota>> {
    Ok(quotas.exceeded(transaction.unchecked(), &call.named_project()).await?)
}
