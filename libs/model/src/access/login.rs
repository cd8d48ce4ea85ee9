//! Logins of programs by a code that someone types in a browser. The program has a token that proves nothing until
//! then. The token's row becomes the row of a valid token, or is cleared.

use matyan_store::{Result, Transaction};

use super::{
    credential::{
        Credential, CredentialKind, Digest, Session, credential_insert, credential_set, credentials_read,
    },
    refusal::AccessRefusal,
};
use crate::keys;

/// Number of wrong codes that can be typed in a session.
const MAX_WRONG_CODES: u8 = 5;

/// The result of typing a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypedCode {
    /// The login that waits for this code, and the session in which it was typed.
    Found { login: Box<Credential>, session: Box<Credential> },
    /// No login waits for this code. The field is the number of further wrong codes that may be typed in the session.
    Wrong { left: u8 },
    /// Too many wrong codes were typed in this session.
    TooMany,
    /// The session was started with a token, and the program's token would outlive that token.
    BegunWithToken,
    /// The session has ended.
    NoSession,
}

/// Writes a login that waits for someone who types its code. It belongs to no principal yet.
pub async fn login_put(
    transaction: &mut Transaction,
    login: &Credential,
) -> Result<Result<(), AccessRefusal>> {
    credential_insert(transaction, login, None).await
}

/// Looks for the login with a code that is typed in a session, and counts a wrong code. `is_meant` says whether the
/// code belongs to a token.
pub async fn code_type(
    transaction: &mut Transaction,
    session: &Digest,
    is_meant: impl Fn(&Digest) -> bool,
    now_us: i64,
) -> Result<TypedCode> {
    let key = keys::credential(session);
    let Some(value) = transaction.get(&key).await? else { return Ok(TypedCode::NoSession) };
    let session = Credential::decode(&key, &value)?;
    if session.is_expired(now_us) {
        return Ok(TypedCode::NoSession);
    }
    let CredentialKind::Session(details) = &session.kind else { return Ok(TypedCode::NoSession) };
    if details.token.is_some() {
        return Ok(TypedCode::BegunWithToken);
    }
    if details.wrong_codes >= MAX_WRONG_CODES {
        return Ok(TypedCode::TooMany);
    }
    let is_waiting = |it: &Credential| {
        matches!(it.kind, CredentialKind::PendingLogin(_)) && !it.is_expired(now_us) && is_meant(&it.digest)
    };
    if let Some(login) = credentials_read(transaction).await?.into_iter().find(is_waiting) {
        return Ok(TypedCode::Found { login: Box::new(login), session: Box::new(session) });
    }
    let wrong_codes = details.wrong_codes + 1;
    let kind = CredentialKind::Session(Session { wrong_codes, ..details.clone() });
    credential_set(transaction, &Credential { kind, ..session });
    Ok(match MAX_WRONG_CODES - wrong_codes {
        0 => TypedCode::TooMany,
        left => TypedCode::Wrong { left },
    })
}
