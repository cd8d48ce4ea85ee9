//! Rights of callers. A *caller* is a principal together with the credential that it has shown, and has
//! rights in projects; each rpc declares the right that it needs (`matyan.common.v1.access`). This crate
//! decides whether a caller has it, and caches the rights of callers for a few seconds. It knows neither
//! protocols nor the store: the edge reads credentials from requests, and a `CallerSource` looks them up.
//!
//! `DatedMap` and `Outage` are the parts of such a cache. They are in this crate because frontiers, which also keep
//! projects, quotas and admitted runs with them, depend on it already. `ShareLimit` is in it for a similar reason: edge
//! and backend give each client a share of what they hold, and both know clients from here.
//!
//! There are deliberately no passwords, no rights per run, and no language for policies.
//!
//! ```
//! use matyan_access::{Caller, CallerRights, Denial, Right, Role};
//! use matyan_proto::common::v1::Access;
//!
//! let mut rights = CallerRights::default();
//! rights.grant_in("speech", Role::Viewer);
//! let caller = Caller::new("service:dashboard", rights);
//! assert_eq!(caller.check(Access::Read, "speech"), Ok(()));
//! assert_eq!(caller.check(Access::Edit, "speech"), Err(Denial::MissingRight(Right::Edit)));
//! assert_eq!(caller.check(Access::Read, "vision"), Err(Denial::UnknownProject));
//! ```

mod right;

mod caller;

mod token;

mod login_code;

mod dated_map;

mod outage;

mod caller_cache;

mod process_key;

mod file_permit;

mod project_name;

mod principal_name;

mod access_event;

mod audited_call;

mod call_origin;

mod share_limit;

pub use access_event::{AccessEvent, AccessObserver, DeniedCall, SignInAttempt, SignInOutcome, SignOut};
pub use audited_call::{is_about_instance, is_audited, is_audited_if_named, rpc_name};
pub use call_origin::{CallClient, CallOrigin, RequestAnswer};
pub use caller::{Caller, CallerRights, Denial, TokenLimits};
pub use caller_cache::{
    CallerCache, CallerSource, LIFETIME, LookupError, MAX_OUTAGE, RECHECK_INTERVAL, REVOCATION_TIME,
};
pub use dated_map::{DatedMap, DatedValue};
pub use file_permit::{FilePermits, PERMIT_LIFETIME, PermitProblem, PermittedFile};
pub use login_code::LoginCode;
pub use outage::{ANSWER_TIMEOUT, Outage, RETRY_INTERVAL};
pub use principal_name::{PRINCIPAL_BYTES, is_principal_name};
pub use process_key::{ProcessKey, Question};
pub use project_name::{NAME_OF_DEFAULT, PROJECT_NAME_RULE, is_project_name};
pub use right::{KnownRights, Right, RightSet, Role};
pub use share_limit::{Refusal, ShareLimit, SharePermit};
pub use token::{AccessToken, BrowserSecret, NEXT_PAGE_BYTES, SIGN_IN_PREFIX, SecretKind, TokenDigest};
