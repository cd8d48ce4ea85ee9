//! Links that sign a browser in once. A list shows their ids; their text is shown once, by `invite`.

use clap::Args;
use matyan_proto::access::v1::{
    LinkInfo, ListAllLinksRequest, ListLinksRequest, RevokeAnyLinkRequest, RevokeLinkRequest, Role,
};
use serde_json::{Value, json};

use super::{AccessClient, check_id, place, revocation_error, role_name};
use crate::client::{
    Error,
    output::{Output, cell, moment},
};

#[derive(Debug, Args)]
pub(crate) struct LinkListFlags {
    /// List all links
    #[arg(long)]
    everywhere: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LinkRevocationFlags {
    /// Its id as `links` shows it, or the first digits of the id
    id: String,
    /// Revoke any link
    #[arg(long)]
    everywhere: bool,
}

/// Prints the links that were not opened yet.
pub(super) async fn list(
    access: &mut AccessClient,
    flags: LinkListFlags,
    out: &mut Output,
) -> Result<(), Error> {
    let links = if flags.everywhere {
        access.list_all_links(ListAllLinksRequest {}).await?.into_inner().links
    } else {
        access.list_links(ListLinksRequest {}).await?.into_inner().links
    };
    print(&links, out)
}

pub(super) async fn revoke(
    access: &mut AccessClient,
    flags: LinkRevocationFlags,
    out: &mut Output,
) -> Result<(), Error> {
    let LinkRevocationFlags { id, everywhere } = flags;
    check_id(&id, "links")?;
    let revoked = if everywhere {
        access.revoke_any_link(RevokeAnyLinkRequest { id }).await?.into_inner().link
    } else {
        let answer = access.revoke_link(RevokeLinkRequest { id }).await;
        answer.map_err(revocation_error)?.into_inner().link
    };
    let revoked = revoked.unwrap_or_default();
    let line = format!("{}  revoked; it signs nobody in any more", cell(&revoked.id));
    Ok(out.result(&object(&revoked), line)?)
}

/// The largest role of the session of a link; `None` for all roles of the principal.
fn limit(link: &LinkInfo) -> Option<&'static str> {
    (link.role() != Role::Unspecified).then(|| role_name(link.role()))
}

fn object(link: &LinkInfo) -> Value {
    json!({
        "id": link.id,
        "principal": link.principal,
        "everywhere": link.project.is_none(),
        "project": link.project,
        "limit": limit(link),
        "host": (!link.host.is_empty()).then_some(&link.host),
        "created": link.created_us as f64 / 1e6,
        "created_by": link.created_by,
        "expires": link.expires_us as f64 / 1e6,
    })
}

fn print(links: &[LinkInfo], out: &mut Output) -> Result<(), Error> {
    if out.json {
        return Ok(links.iter().try_for_each(|link| out.object(&object(link)))?);
    }
    let rows: Vec<_> = links.iter().map(row).collect();
    Ok(out.table(["ID", "PRINCIPAL", "PROJECT", "LIMIT", "EXPIRES (UTC)", "BY", "HOST"], &rows)?)
}

fn row(link: &LinkInfo) -> [String; 7] {
    [
        cell(&link.id),
        cell(&link.principal),
        place(link.project.as_deref()),
        limit(link).unwrap_or_default().to_owned(),
        moment(link.expires_us),
        cell(&link.created_by),
        cell(&link.host),
    ]
}
