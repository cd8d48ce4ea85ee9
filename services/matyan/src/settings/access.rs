//! Settings of access control: whether callers are asked who they are, and the first operator.

use std::{net::IpAddr, path::PathBuf};

use super::{parse::AccessMode, reader::Reader, role::Role, table};

#[derive(Debug)]
pub(crate) struct AccessSettings {
    /// `None`: not said. Then no one is asked, unless the store has access control.
    pub(crate) mode: Option<AccessMode>,
    /// File with the token of the first operator.
    pub(crate) operator_token_file: Option<PathBuf>,
}

impl AccessSettings {
    pub(super) fn read(role: Role, host: IpAddr, has_tls: bool, reader: &mut Reader) -> Self {
        let mode = reader.optional(&table::ACCESS);
        match mode {
            Some(AccessMode::On) => check_closed(role, host, has_tls, reader),
            Some(AccessMode::Off) => {}
            None => require_choice(role, host, reader),
        }
        Self { mode, operator_token_file: reader.optional(&table::OPERATOR_TOKEN_FILE) }
    }
}

/// Refuses to serve data to other machines unless someone has decided who may read it. Workers serve none.
fn require_choice(role: Role, host: IpAddr, reader: &mut Reader) {
    if role.is_worker() || host.is_loopback() || reader.is_set(&table::ACCESS) {
        return;
    }
    let problem = format!(
        "not set, but other machines can connect to {host}: set --access on, so that callers need a token, or --access off, \
         so that everyone who can connect may do everything; or listen on this machine only, with --host 127.0.0.1"
    );
    reader.refuse(&table::ACCESS, problem);
}

/// Refuses a process that could not ask a backend who its callers are.
fn check_backend(reader: &mut Reader) {
    if !reader.is_set(&table::BACKEND_URL) {
        let problem = "not set; with access control, set the address of a backend, which knows the callers";
        reader.refuse(&table::BACKEND_URL, problem);
    }
    if !reader.is_set(&table::BLOB_URI_SECRET) {
        let problem = "not set; with access control, set the same random string as for the backends, which then answer \
                       who the callers are";
        reader.refuse(&table::BLOB_URI_SECRET, problem);
    }
}

/// Refuses settings that would defeat access control.
fn check_closed(role: Role, host: IpAddr, has_tls: bool, reader: &mut Reader) {
    if !role.has_store() {
        check_backend(reader);
    }
    let is_behind_proxy = reader.read(&table::ACCESS_BEHIND_PROXY);
    if !role.is_worker() && !host.is_loopback() && !has_tls && !is_behind_proxy {
        let problem = "`on` without TLS would let others on the network read tokens: set --tls-cert and --tls-key, or \
                       --access-behind-proxy true if a proxy serves TLS";
        reader.refuse(&table::ACCESS, problem);
    }
    if reader.is_set(&table::UI_API_AUTH_TOKEN) {
        let problem =
            "would publish a token to everyone who opens the UI: unset it, because access control is on";
        reader.refuse(&table::UI_API_AUTH_TOKEN, problem);
    }
}
