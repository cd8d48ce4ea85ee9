//! Which calls have an entry in the audit log, and which of them are about no project. The edge tells the services
//! who makes such a call, and reports it if it is denied; the services write the entries of the others.

use matyan_proto::{accesses, common::v1::Access};

/// Start of the path of every rpc of this product.
const PACKAGE: &str = "/matyan.";

/// The service of backups.
const BACKUP: &str = "/matyan.backup.v1.BackupService/";

/// Calls that get an audit entry: every call with side effects that needs the right to manage a project or to operate
/// the instance, and the two calls that start a backup. Sorted.
const AUDITED: [&str; 31] = [
    "access.v1.AccessService/CreateLink",
    "access.v1.AccessService/CreateLinkEverywhere",
    "access.v1.AccessService/CreateToken",
    "access.v1.AccessService/CreateTokenEverywhere",
    "access.v1.AccessService/DisablePrincipal",
    "access.v1.AccessService/EnablePrincipal",
    "access.v1.AccessService/Grant",
    "access.v1.AccessService/GrantEverywhere",
    "access.v1.AccessService/RemovePrincipal",
    "access.v1.AccessService/Revoke",
    "access.v1.AccessService/RevokeAnyLink",
    "access.v1.AccessService/RevokeAnyToken",
    "access.v1.AccessService/RevokeEverywhere",
    "access.v1.AccessService/RevokeLink",
    "access.v1.AccessService/RevokeToken",
    "admin.v1.AdminService/CleanupOrphanBlobs",
    "admin.v1.AdminService/CleanupTombstones",
    "admin.v1.AdminService/DeleteParkedItems",
    "admin.v1.AdminService/FinishStale",
    "admin.v1.AdminService/ParkRun",
    "admin.v1.AdminService/Reindex",
    "admin.v1.AdminService/ResumeRun",
    "admin.v1.AdminService/SkipLostRecords",
    "backup.v1.BackupService/FinishRun",
    "backup.v1.BackupService/ListRuns",
    "backup.v1.BackupService/ReadProject",
    "backup.v1.BackupService/RestoreProject",
    "project.v1.ProjectService/Create",
    "project.v1.ProjectService/Delete",
    "project.v1.ProjectService/Update",
    "runs.v1.RunService/ClearTombstone",
];

/// The call with which a caller ends its own token. It is about no project.
const END_LOGIN: &str = "access.v1.AccessService/EndLogin";

/// The call that writes a document.
const WRITE_DOCUMENT: &str = "documents.v1.DocumentService/Write";

/// Calls that get an audit entry only if their handler says what they change. Most calls that write a document take
/// nothing away, and a call to end a token may find none.
const AUDITED_IF_NAMED: [&str; 2] = [END_LOGIN, WRITE_DOCUMENT];

/// Calls of lesser roles that get an audit entry: all deletions, the calls that move runs into the bin and out of it,
/// and the end of a token. Sorted. Other edits, such as a new name or a tag, get no entry: scripts make thousands of
/// edits, and an edit can be changed back.
const AUDITED_DELETIONS: [&str; 17] = [
    END_LOGIN,
    "apps.v1.AppService/Delete",
    "artifacts.v1.ArtifactService/Delete",
    "dashboards.v1.DashboardService/Delete",
    "documents.v1.DocumentService/Delete",
    "experiments.v1.ExperimentService/Delete",
    "notes.v1.NoteService/Delete",
    "reports.v1.ReportService/Delete",
    BIN,
    "runs.v1.RunService/Delete",
    "runs.v1.RunService/DeleteBatch",
    "runs.v1.RunService/DeleteParams",
    RESTORE,
    "series.v1.SeriesService/Delete",
    "series.v1.SeriesService/DeleteSteps",
    "studies.v1.StudyService/Delete",
    "tags.v1.TagService/Delete",
];

/// The call that moves runs into the bin.
const BIN: &str = "runs.v1.RunService/BinBatch";

/// The call that takes runs out of the bin.
const RESTORE: &str = "runs.v1.RunService/RestoreBatch";

/// The name of the rpc with this path in the audit log, such as `access.v1.AccessService/Grant`.
pub fn rpc_name(path: &str) -> &str {
    path.strip_prefix(PACKAGE).unwrap_or(path)
}

/// Whether a call to this path has, or may have, an entry in the audit log.
pub fn is_audited(path: &str) -> bool {
    let Some(rpc) = path.strip_prefix(PACKAGE) else { return false };
    AUDITED.binary_search(&rpc).is_ok() || AUDITED_DELETIONS.contains(&rpc) || AUDITED_IF_NAMED.contains(&rpc)
}

/// Whether a call to this path has an entry only if its handler says what it changes.
pub fn is_audited_if_named(path: &str) -> bool {
    AUDITED_IF_NAMED.contains(&rpc_name(path))
}

/// Whether a call to this path is about no project in particular. A backup needs an operator, but is about a project.
pub fn is_about_instance(path: &str) -> bool {
    let found = accesses::ALL.binary_search_by_key(&path, |(path, _)| path);
    let is_of_operators = found.is_ok_and(|found| accesses::ALL[found].1 == Access::Operate);
    is_of_operators && !path.starts_with(BACKUP) || rpc_name(path) == END_LOGIN
}

#[cfg(test)]
mod tests {
    use matyan_proto::DESCRIPTORS;
    use prost_reflect::DescriptorPool;

    use super::*;

    /// Calls of operators that have no entry, and why.
    const NOT_AUDITED: [&str; 3] = [
        // Parts of the restore of a run, which is invisible before `FinishRun`. There may be thousands for one run.
        "backup.v1.BackupService/BeginRun",
        "backup.v1.BackupService/WriteBlob",
        "backup.v1.BackupService/WriteRun",
    ];

    /// Calls that change nothing and have an entry. `ReadRun` and `ReadBlob` have none: there are thousands in a backup,
    /// and the other services return the same data to everyone who may read the project.
    const AUDITED_READS: [&str; 2] =
        ["backup.v1.BackupService/ListRuns", "backup.v1.BackupService/ReadProject"];

    #[test]
    fn rule_80_no_deletion_and_no_call_that_manages_or_operates_is_left_out() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let mut expected = Vec::new();
        let mut deletions = vec![END_LOGIN, BIN, RESTORE];
        for (path, access) in &accesses::ALL {
            let rpc = path.strip_prefix(PACKAGE).unwrap();
            let (service, method) = rpc.split_once('/').unwrap();
            let service = pool.get_service_by_name(&format!("matyan.{service}")).unwrap();
            let method = service.methods().find(|it| it.name() == method).unwrap();
            let options = method.method_descriptor_proto().options.clone().unwrap();
            // NO_SIDE_EFFECTS
            let reads = options.idempotency_level == Some(1);
            let is_kept = matches!(access, Access::Manage | Access::Operate) && !reads;
            if is_kept && !NOT_AUDITED.contains(&rpc) || AUDITED_READS.contains(&rpc) {
                expected.push(rpc);
            } else if !is_kept && method.name().starts_with("Delete") {
                deletions.push(rpc);
            }
        }
        assert_eq!(AUDITED.to_vec(), expected);
        assert!(AUDITED.is_sorted());
        deletions.sort_unstable();
        assert_eq!(AUDITED_DELETIONS.to_vec(), deletions);
        for rpc in [END_LOGIN, WRITE_DOCUMENT, BIN, RESTORE] {
            assert!(accesses::ALL.iter().any(|(path, _)| *path == format!("{PACKAGE}{rpc}")), "{rpc}");
        }
    }

    #[test]
    fn calls_of_operators_are_about_no_project_except_backups() {
        for (rpc, expected) in [
            ("access.v1.AccessService/GrantEverywhere", true),
            ("project.v1.ProjectService/Create", true),
            ("access.v1.AccessService/EndLogin", true),
            ("access.v1.AccessService/Grant", false),
            ("backup.v1.BackupService/ReadProject", false),
            ("backup.v1.BackupService/RestoreProject", false),
        ] {
            let path = format!("{PACKAGE}{rpc}");
            assert!(is_audited(&path), "{rpc}");
            assert_eq!(rpc_name(&path), rpc);
            assert_eq!(is_about_instance(&path), expected, "{rpc}");
        }
        for path in ["/matyan.search.v1.SearchService/Runs", "/grpc.health.v1.Health/Check", ""] {
            assert!(!is_audited(path), "{path}");
        }
    }
}
