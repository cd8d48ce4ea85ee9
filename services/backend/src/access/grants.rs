//! Roles of principals.

use std::collections::BTreeSet;

use matyan_access::{AccessToken, PRINCIPAL_BYTES, is_principal_name};
use matyan_model::access::{
    ANONYMOUS, Grant, PrincipalRemoval, grant_put, grant_remove, grants_list, grants_of, principal_disable,
    principal_enable, principal_is_active, principal_remove, principals_disabled,
};
use matyan_proto::access::v1::{self as pb, Role};
use matyan_store::{Transaction, transact};

use crate::server::{
    audit::audit_resource,
    call::Call,
    deps::Deps,
    error::{Error, Result},
};

/// The name of a role, as in commands.
pub(super) fn role_name(role: Role) -> &'static str {
    matyan_access::Role::from_proto(role).map_or("unspecified", matyan_access::Role::name)
}

pub(super) fn view(grant: Grant) -> pb::PrincipalRole {
    let Grant { principal, project, role, granted_us, granted_by, provider } = grant;
    let provider = provider.unwrap_or_default();
    let disabled = false;
    pb::PrincipalRole { principal, role: role.into(), project, granted_us, granted_by, provider, disabled }
}

/// The roles of one principal in the known projects, and in all projects.
pub(super) async fn of_principal(
    deps: &Deps,
    principal: &str,
    known: Option<&BTreeSet<String>>,
) -> Result<Vec<pb::PrincipalRole>> {
    let snapshot = deps.store.snapshot().await?;
    let granted = grants_of(snapshot.as_ref(), principal).await?;
    let is_shown = |grant: &Grant| match (&grant.project, known) {
        (Some(project), Some(known)) => known.contains(project),
        _ => true,
    };
    Ok(granted.into_iter().filter(is_shown).map(view).collect())
}

/// The roles in one project together with the roles in all projects; or all roles.
pub(super) async fn list(deps: &Deps, project: Option<&str>) -> Result<Vec<pb::PrincipalRole>> {
    let snapshot = deps.store.snapshot().await?;
    let listed = grants_list(snapshot.as_ref()).await?;
    let is_shown =
        |grant: &Grant| project.is_none() || grant.project.is_none() || grant.project.as_deref() == project;
    let disabled = principals_disabled(snapshot.as_ref()).await?;
    let view = |grant: Grant| {
        let disabled = disabled.contains(&grant.principal);
        pb::PrincipalRole { disabled, ..view(grant) }
    };
    Ok(listed.into_iter().filter(is_shown).map(view).collect())
}

/// The disabled principals that have no role, which no list of roles contains.
pub(super) async fn disabled_without_role(deps: &Deps) -> Result<Vec<String>> {
    let snapshot = deps.store.snapshot().await?;
    let mut disabled = principals_disabled(snapshot.as_ref()).await?;
    for grant in grants_list(snapshot.as_ref()).await? {
        disabled.remove(&grant.principal);
    }
    Ok(disabled.into_iter().collect())
}

pub(super) async fn grant(
    deps: &Deps,
    call: &Call,
    principal: String,
    project: Option<String>,
    role: Role,
) -> Result<pb::PrincipalRole> {
    audit_resource(format_args!("{principal} {}", role_name(role)));
    check_principal(&principal)?;
    check_role(&principal, project.as_deref(), role)?;
    let granted_by = call.caller.clone();
    let granted_us = (deps.clock)();
    let grant = Grant { principal, project, role, granted_us, granted_by, provider: None };
    let (put, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let put = grant_put(&mut transaction, &grant).await?;
        Ok::<_, Error>((transaction, put))
    })
    .await?;
    put.map_err(|refusal| Error::of_access(refusal, &grant.principal))?;
    let snapshot = deps.store.snapshot().await?;
    let disabled = !principal_is_active(snapshot.as_ref(), &grant.principal).await?;
    Ok(pb::PrincipalRole { disabled, ..view(grant) })
}

pub(super) async fn revoke(deps: &Deps, principal: &str, project: Option<&str>) -> Result<()> {
    audit_resource(principal);
    check_principal(principal)?;
    let (was_granted, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let was_granted = grant_remove(&mut transaction, principal, project).await?;
        Ok::<_, Error>((transaction, was_granted))
    })
    .await?;
    if !was_granted.map_err(|refusal| Error::of_access(refusal, principal))? {
        return Err(Error::not_found("role of the principal", principal));
    }
    Ok(())
}

/// Removes a principal. Returns whether it is disabled instead of forgotten.
pub(super) async fn remove_principal(deps: &Deps, principal: &str) -> Result<bool> {
    audit_resource(principal);
    check_principal(principal)?;
    let (removal, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let removal = principal_remove(&mut transaction, principal).await?;
        Ok::<_, Error>((transaction, removal))
    })
    .await?;
    match removal.map_err(|refusal| Error::of_access(refusal, principal))? {
        PrincipalRemoval::Unknown => Err(Error::not_found("principal", principal)),
        PrincipalRemoval::Removed => Ok(false),
        PrincipalRemoval::Disabled => Ok(true),
    }
}

pub(super) async fn disable_principal(deps: &Deps, principal: &str) -> Result<()> {
    audit_resource(principal);
    check_principal(principal)?;
    let (existed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let existed = principal_disable(&mut transaction, principal).await?;
        Ok::<_, Error>((transaction, existed))
    })
    .await?;
    if !existed.map_err(|refusal| Error::of_access(refusal, principal))? {
        return Err(Error::not_found("principal", principal));
    }
    Ok(())
}

pub(super) async fn enable_principal(deps: &Deps, principal: &str) -> Result<()> {
    audit_resource(principal);
    check_principal(principal)?;
    let (existed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let existed = principal_enable(&mut transaction, principal).await?;
        Ok::<_, Error>((transaction, existed))
    })
    .await?;
    if !existed {
        return Err(Error::not_found("principal", principal));
    }
    Ok(())
}

/// The name is part of keys, headers and log lines.
pub(super) fn check_principal(name: &str) -> Result<()> {
    match name.as_bytes() {
        [] => Err(Error::field("principal", "is empty: give a name such as `ana` or `ci`")),
        bytes if bytes.len() > PRINCIPAL_BYTES => {
            Err(Error::TooLarge { field: "principal", size: bytes.len(), limit: PRINCIPAL_BYTES })
        }
        _ if is_principal_name(name) => Ok(()),
        _ => Err(Error::field(
            "principal",
            format!(
                "may contain lowercase letters, digits, `-`, `_`, `.`, `@`, `+` and `:`, and begins with a letter or a \
                 digit: {}",
                other_name(name)
            ),
        )),
    }
}

/// The next step for a name that no principal can have.
fn other_name(name: &str) -> String {
    let lowercase = name.to_ascii_lowercase();
    // People paste tokens where names belong.
    let is_secret = AccessToken::masked(name) != name;
    if is_principal_name(&lowercase) && !is_secret {
        format!("use `{lowercase}`")
    } else if name.contains('/') {
        "choose another name; a team of GitHub, such as `my-org/ml-team`, gets roles in MATYAN_GITHUB_ROLES"
            .to_owned()
    } else {
        "choose another name".to_owned()
    }
}

fn check_role(principal: &str, project: Option<&str>, role: Role) -> Result<()> {
    let reason = match role {
        Role::Unspecified => "is missing: use monitor, ingest, viewer, writer, editor, owner or operator",
        Role::Operator if project.is_some() => {
            "is `operator`, which is a role in all projects: grant it with `--everywhere`, or use `owner`"
        }
        Role::Monitor if project.is_some() => {
            "is `monitor`, which reads the metrics of the whole server: grant it with `--everywhere`"
        }
        _ if principal == ANONYMOUS && role != Role::Viewer => {
            "is too large for `anonymous`, which is everyone who can connect: use `viewer`"
        }
        _ => return Ok(()),
    };
    Err(Error::field("role", reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_principals_fit_into_headers_and_keys() {
        for name in ["a", "0", "ana", "ana@example.org", "service:ci", "a.b+c_d-e", &"a".repeat(128)] {
            check_principal(name).unwrap();
        }
        for name in ["", "Ana", ":a", "a b", "ä", "a/b", "a\n", "a%2f", &"a".repeat(129)] {
            check_principal(name).unwrap_err();
        }
    }

    #[test]
    fn a_name_that_is_refused_leads_to_another_one() {
        for (name, expected) in [
            ("GitHub:Ana", "a digit: use `github:ana`"),
            ("My-Org/ML-Team", "gets roles in MATYAN_GITHUB_ROLES"),
            ("ana z", "a digit: choose another name"),
            ("mtk_Secret", "a digit: choose another name"),
        ] {
            let refused = check_principal(name).unwrap_err().to_string();
            assert!(refused.ends_with(expected), "{refused}");
        }
    }

    #[test]
    fn rule_62_some_roles_are_not_for_all_principals_and_projects() {
        check_role("ana", None, Role::Operator).unwrap();
        check_role("ana", Some("speech"), Role::Owner).unwrap();
        check_role("ana", Some("speech"), Role::Operator).unwrap_err();
        check_role("ana", Some(""), Role::Operator).unwrap_err();
        check_role("ana", None, Role::Unspecified).unwrap_err();
        check_role("prometheus", None, Role::Monitor).unwrap();
        check_role("prometheus", Some("speech"), Role::Monitor).unwrap_err();
        check_role(ANONYMOUS, None, Role::Monitor).unwrap_err();
        check_role(ANONYMOUS, Some("speech"), Role::Viewer).unwrap();
        for role in [Role::Ingest, Role::Writer, Role::Editor, Role::Owner] {
            check_role(ANONYMOUS, Some("speech"), role).unwrap_err();
        }
    }
}
