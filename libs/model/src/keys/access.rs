//! Keys of the rows of access control, which are system rows.

use foundationdb_tuple::Bytes as TupleBytes;
use matyan_store::{Key, Range, Result};

use super::{System, corrupt, join_key, subtree, system, tail};

/// The projects of a grant. Numbers in keys.
const EVERYWHERE: u16 = 0;
const IN_PROJECT: u16 = 1;

/// The orders of the audit log. Numbers in keys.
const ALL_ENTRIES: u16 = 0;
const ENTRIES_OF_PROJECT: u16 = 1;

pub fn principal(name: &str) -> Key {
    system(System::Principal, (name,))
}

/// Decode the keys with `decode_principal`.
pub fn principals() -> Range {
    subtree(system(System::Principal, ()))
}

/// The name of a principal.
pub fn decode_principal(key: &Key) -> Result<String> {
    let (name,): (String,) = tail(&principals().start, key)?;
    Ok(name)
}

/// The role of a principal in a project, by the name of the project, or in all projects.
pub fn grant(principal: &str, project: Option<&str>) -> Key {
    match project {
        Some(project) => system(System::Grant, (principal, IN_PROJECT, project)),
        None => system(System::Grant, (principal, EVERYWHERE)),
    }
}

/// The roles of one principal; decode the keys with `decode_grant`.
pub fn grants_of(principal: &str) -> Range {
    subtree(system(System::Grant, (principal,)))
}

/// The roles of all principals; decode the keys with `decode_grant`.
pub fn grants() -> Range {
    subtree(system(System::Grant, ()))
}

/// The principal of a grant, and the name of its project; `None` for all projects.
pub fn decode_grant(key: &Key) -> Result<(String, Option<String>)> {
    let all = grants().start;
    if let Ok((principal, EVERYWHERE)) = tail::<(String, u16)>(&all, key) {
        return Ok((principal, None));
    }
    match tail::<(String, u16, String)>(&all, key)? {
        (principal, IN_PROJECT, project) => Ok((principal, Some(project))),
        _ => Err(corrupt(key)),
    }
}

pub fn credential(digest: &[u8; 32]) -> Key {
    system(System::Credential, (TupleBytes::from(&digest[..]),))
}

/// Decode the keys with `decode_credential`.
pub fn credentials() -> Range {
    subtree(system(System::Credential, ()))
}

pub fn decode_credential(key: &Key) -> Result<[u8; 32]> {
    let (digest,): (TupleBytes<'_>,) = tail(&credentials().start, key)?;
    digest.as_ref().try_into().map_err(|_| corrupt(key))
}

/// The principal of someone whom a provider knows by this subject.
pub fn identity(issuer: &str, subject: &str) -> Key {
    system(System::Identity, (issuer, subject))
}

/// An entry of the audit log in the order of all entries. `project` is absent for an entry that belongs to no project.
pub fn audit_entry(time_us: i64, id: &str, project: Option<&str>) -> Key {
    match project {
        Some(project) => system(System::Audit, (ALL_ENTRIES, time_us, id, project)),
        None => system(System::Audit, (ALL_ENTRIES, time_us, id)),
    }
}

/// The same entry in the order of the entries of its project.
pub fn audit_entry_of_project(project: &str, time_us: i64, id: &str) -> Key {
    system(System::Audit, (ENTRIES_OF_PROJECT, project, time_us, id))
}

fn audit_prefix(project: Option<&str>) -> Key {
    match project {
        Some(project) => system(System::Audit, (ENTRIES_OF_PROJECT, project)),
        None => system(System::Audit, (ALL_ENTRIES,)),
    }
}

/// The entries of one project, or all entries, oldest first; decode the keys with `decode_audit_entry`.
pub fn audit_entries(project: Option<&str>) -> Range {
    subtree(audit_prefix(project))
}

/// The part of `audit_entries` before a time.
pub fn audit_entries_until(project: Option<&str>, time_us: i64) -> Range {
    let start = audit_prefix(project);
    let end = join_key(start.to_vec(), (time_us,));
    Range::new(start, end)
}

/// The part of `audit_entries` before an entry.
pub fn audit_entries_before(project: Option<&str>, time_us: i64, id: &str) -> Range {
    let start = audit_prefix(project);
    let end = join_key(start.to_vec(), (time_us, id));
    Range::new(start, end)
}

/// The time of an entry, its id, and its project, from a key of `audit_entries` with the same `project`.
pub fn decode_audit_entry(project: Option<&str>, key: &Key) -> Result<(i64, String, Option<String>)> {
    let start = audit_prefix(project);
    if let Ok((time_us, id)) = tail::<(i64, String)>(&start, key) {
        return Ok((time_us, id, project.map(str::to_owned)));
    }
    match project {
        Some(_) => Err(corrupt(key)),
        None => tail::<(i64, String, String)>(&start, key)
            .map(|(time_us, id, project)| (time_us, id, Some(project))),
    }
}
