//! Reports of who signs in and out, of credentials that are refused, and of denied calls. Anyone can show wrong
//! credentials as often as they like, so the number of reported refusals is limited for each network, and for all
//! networks together. Callers with a token can sign in and be denied calls as often as they like, so the number of
//! reported sign-ins and denials is limited for each principal. People whom a provider knows are counted by name, so
//! that a script with an old token does not hide who was refused.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap};
use matyan_access::{
    AccessEvent, AccessObserver, DeniedCall, SignInAttempt, SignInOutcome, SignOut, TokenDigest,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::peer_network::{PeerAddress, PeerNetwork};
use crate::request_id;

/// Time for which reports are counted together.
const PERIOD: Duration = Duration::from_secs(3_600);

/// Maximum number of refusals in a period that are reported for one network.
const MAX_OF_NETWORK: usize = 10;

/// Maximum number of refusals in a period that are reported.
const MAX_REFUSALS: usize = 100;

/// Maximum number of refused sign-ins of one person in a period that are reported.
const MAX_OF_PERSON: usize = 10;

/// Maximum number of refused sign-ins of all persons in a period that are reported. It also bounds the names that are
/// remembered, because anyone may have an account at a provider.
const MAX_OF_PERSONS: usize = 1_000;

/// Maximum number of sign-ins of one principal in a period that are reported: more than one person needs, or a few who
/// share a name.
const MAX_OF_PRINCIPAL: usize = 100;

/// Maximum number of denied calls of one principal in a period that are reported.
const MAX_DENIALS: usize = 10;

/// A browser that has signed in. An extension of responses.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) principal: String,
    pub(crate) session: TokenDigest,
}

/// A person whom a provider knows, and who may not sign in. An extension of responses.
#[derive(Clone, Debug)]
pub(crate) struct SignInRefused {
    pub(crate) principal: String,
}

/// A browser that has signed out. An extension of responses.
#[derive(Clone, Debug)]
pub(crate) struct SignedOut {
    pub(crate) principal: String,
    pub(crate) session: TokenDigest,
}

/// Cheap to clone; clones count together. `None` if nothing is to be reported.
#[derive(Clone, Default)]
pub(crate) struct AccessReports(Option<Arc<CountedReports>>);

struct CountedReports {
    observer: Arc<dyn AccessObserver>,
    /// By network; `None` for clients on this machine.
    refusals: Mutex<ReportCount<Option<PeerNetwork>>>,
    /// By network and digest of the token. A script shows the same token again and again, and one report of it is enough.
    refused_tokens: Mutex<ReportCount<(Option<PeerNetwork>, [u8; 32])>>,
    /// By principal.
    refused_persons: Mutex<ReportCount<String>>,
    /// By principal.
    sign_ins: Mutex<ReportCount<String>>,
    /// By principal.
    sign_outs: Mutex<ReportCount<String>>,
    /// By principal.
    denials: Mutex<ReportCount<String>>,
}

impl fmt::Debug for AccessReports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AccessReports").finish_non_exhaustive()
    }
}

/// The number of reports in the current period, in all and by who has caused them.
#[derive(Default)]
struct ReportCount<C> {
    began: Option<Instant>,
    of_causes: HashMap<C, usize>,
    total: usize,
}

/// The sender of a request, as reports name it.
#[derive(Clone)]
pub(crate) struct Sender {
    address: Option<PeerAddress>,
    network: Option<PeerNetwork>,
    request_id: String,
}

impl Sender {
    pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap) -> Self {
        let id = headers.get(request_id::HEADER).and_then(|id| id.to_str().ok());
        Sender {
            address: extensions.get().copied(),
            network: extensions.get().copied(),
            request_id: id.unwrap_or_default().to_owned(),
        }
    }
}

impl AccessReports {
    pub(crate) fn new(observer: Arc<dyn AccessObserver>) -> Self {
        AccessReports(Some(Arc::new(CountedReports {
            observer,
            refusals: Mutex::default(),
            refused_tokens: Mutex::default(),
            refused_persons: Mutex::default(),
            sign_ins: Mutex::default(),
            sign_outs: Mutex::default(),
            denials: Mutex::default(),
        })))
    }

    /// Reports a sign-in, unless there were too many of its principal.
    pub(crate) fn signed_in(&self, sender: Sender, signed_in: SignedIn) {
        let Some(reports) = &self.0 else { return };
        let SignedIn { principal, session } = signed_in;
        // There are at most as many principals as the store has.
        if count(&reports.sign_ins, principal.clone(), MAX_OF_PRINCIPAL, usize::MAX) {
            reports.report(sender, principal, session.id(), SignInOutcome::SignedIn);
        }
    }

    /// Reports a sign-out, unless there were too many of its principal.
    pub(crate) fn signed_out(&self, sender: Sender, signed_out: SignedOut) {
        let Some(reports) = &self.0 else { return };
        let SignedOut { principal, session } = signed_out;
        if count(&reports.sign_outs, principal.clone(), MAX_OF_PRINCIPAL, usize::MAX) {
            let Sender { address, request_id, .. } = sender;
            let address = address.map(|PeerAddress(address)| address);
            let credential = session.id();
            reports.observer.observe(AccessEvent::SignOut(SignOut {
                principal,
                credential,
                address,
                request_id,
            }));
        }
    }

    /// Reports a refused credential of a call, unless it was reported already, or there were too many refusals. `token`: its
    /// digest, if it has the form of a token.
    pub(crate) fn refused(&self, sender: Sender, token: Option<TokenDigest>) {
        let Some(reports) = &self.0 else { return };
        if reports.count_refusal(sender.network, token) {
            let credential = token.map(|token| token.id()).unwrap_or_default();
            reports.report(sender, String::new(), credential, SignInOutcome::CredentialRefused);
        }
    }

    /// Reports that a page for signing in or out has refused what a browser sent, unless there were too many refusals.
    pub(crate) fn page_refused(&self, sender: Sender) {
        let Some(reports) = &self.0 else { return };
        if count(&reports.refusals, sender.network, MAX_OF_NETWORK, MAX_REFUSALS) {
            reports.report(sender, String::new(), String::new(), SignInOutcome::PageRefused);
        }
    }

    /// Reports a sign-in of someone who is known and may not sign in, unless too many sign-ins of this person were
    /// refused.
    pub(crate) fn sign_in_refused(&self, sender: Sender, refused: SignInRefused) {
        let Some(reports) = &self.0 else { return };
        let SignInRefused { principal } = refused;
        if count(&reports.refused_persons, principal.clone(), MAX_OF_PERSON, MAX_OF_PERSONS) {
            reports.report(sender, principal, String::new(), SignInOutcome::PersonRefused);
        }
    }

    /// Reports a denied call, unless there were too many of its principal.
    pub(crate) fn denied(&self, call: DeniedCall) {
        let Some(reports) = &self.0 else { return };
        // There are at most as many principals as the store has.
        if count(&reports.denials, call.principal.clone(), MAX_DENIALS, usize::MAX) {
            reports.observer.observe(AccessEvent::Denial(call));
        }
    }
}

impl CountedReports {
    /// Counts a refused credential. Returns whether it may be reported. Only reported tokens are remembered, so their
    /// number is bounded by the number of reports.
    fn count_refusal(&self, network: Option<PeerNetwork>, token: Option<TokenDigest>) -> bool {
        let mut tokens = self.refused_tokens.lock();
        let shown = token.map(|TokenDigest(digest)| (network, digest));
        if shown.as_ref().is_some_and(|shown| !tokens.has_room(shown, 1, usize::MAX)) {
            return false;
        }
        let is_reported = count(&self.refusals, network, MAX_OF_NETWORK, MAX_REFUSALS);
        if let Some(shown) = shown.filter(|_| is_reported) {
            tokens.add(shown);
        }
        is_reported
    }

    fn report(&self, sender: Sender, principal: String, credential: String, outcome: SignInOutcome) {
        let Sender { address, request_id, .. } = sender;
        let address = address.map(|PeerAddress(address)| address);
        let attempt = SignInAttempt { principal, credential, address, request_id, outcome };
        self.observer.observe(AccessEvent::SignIn(attempt));
    }
}

impl<C: Eq + Hash> ReportCount<C> {
    /// Whether a cause, and all causes together, may still be reported. Begins a new period after the end of the last one.
    fn has_room(&mut self, cause: &C, most_of_cause: usize, most: usize) -> bool {
        let now = Instant::now();
        if self.began.is_none_or(|began| now - began >= PERIOD) {
            *self = ReportCount { began: Some(now), of_causes: HashMap::new(), total: 0 };
        }
        let of_cause = self.of_causes.get(cause).copied().unwrap_or_default();
        self.total < most && of_cause < most_of_cause
    }

    fn add(&mut self, cause: C) {
        *self.of_causes.entry(cause).or_default() += 1;
        self.total += 1;
    }
}

/// Counts a report. Returns whether its cause, and all causes together, may still be reported.
fn count<C: Eq + Hash>(reports: &Mutex<ReportCount<C>>, cause: C, most_of_cause: usize, most: usize) -> bool {
    let mut reports = reports.lock();
    let has_room = reports.has_room(&cause, most_of_cause, most);
    if has_room {
        reports.add(cause);
    }
    has_room
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<AccessEvent>>);

    impl AccessObserver for Recorder {
        fn observe(&self, event: AccessEvent) {
            self.0.lock().push(event);
        }
    }

    fn principal(event: &AccessEvent) -> &str {
        match event {
            AccessEvent::SignIn(attempt) => &attempt.principal,
            AccessEvent::SignOut(sign_out) => &sign_out.principal,
            AccessEvent::Denial(call) => &call.principal,
        }
    }

    fn sender(last_byte: u8) -> Sender {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last_byte));
        let network = PeerNetwork::of(address);
        Sender { address: Some(PeerAddress(address)), network, request_id: "r".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_80_refused_credentials_fill_no_log() {
        let recorder = Arc::new(Recorder::default());
        let reports = AccessReports::new(recorder.clone());
        let reported = || std::mem::take(&mut *recorder.0.lock());
        for _ in 0..1_000 {
            reports.refused(sender(1), Some(TokenDigest([1; 32])));
        }
        let first = reported();
        assert_eq!(first.len(), 1, "a token is reported once");
        for byte in 2..=255 {
            reports.refused(sender(1), Some(TokenDigest([byte; 32])));
        }
        assert_eq!(reported().len(), MAX_OF_NETWORK - 1);
        let expected = SignInAttempt {
            principal: String::new(),
            credential: "0101010101010101".to_owned(),
            address: Some(Ipv4Addr::new(10, 0, 0, 1).into()),
            request_id: "r".to_owned(),
            outcome: SignInOutcome::CredentialRefused,
        };
        assert_eq!(first[0], AccessEvent::SignIn(expected));
        reports.page_refused(sender(1));
        assert_eq!(reported().len(), 0, "all refusals of a network count together");
        // Another network with the same token is news.
        reports.refused(sender(2), Some(TokenDigest([1; 32])));
        assert_eq!(reported().len(), 1);
        for last_byte in 3..=255 {
            reports.refused(sender(last_byte), None);
        }
        assert_eq!(reported().len(), MAX_REFUSALS - MAX_OF_NETWORK - 1);
        // A sign-in is reported however many refusals there were.
        let signed_in = SignedIn { principal: "ana".to_owned(), session: TokenDigest([2; 32]) };
        reports.signed_in(sender(1), signed_in);
        assert_eq!(principal(&reported()[0]), "ana");
        tokio::time::advance(PERIOD).await;
        for _ in 0..2 {
            reports.refused(sender(1), Some(TokenDigest([1; 32])));
        }
        assert_eq!(reported().len(), 1, "once in each period");
    }

    #[tokio::test(start_paused = true)]
    async fn rule_80_a_refused_person_is_not_lost_among_refused_credentials() {
        let recorder = Arc::new(Recorder::default());
        let reports = AccessReports::new(recorder.clone());
        let reported = || std::mem::take(&mut *recorder.0.lock());
        let refuse = |principal: String| reports.sign_in_refused(sender(1), SignInRefused { principal });
        for last_byte in 1..=255 {
            reports.refused(sender(last_byte), None);
        }
        assert_eq!(reported().len(), MAX_REFUSALS);
        for _ in 0..1_000 {
            refuse("github:bob".to_owned());
        }
        refuse("github:zoe".to_owned());
        let found = reported();
        assert_eq!(found.len(), MAX_OF_PERSON + 1);
        assert_eq!(found.last().map(principal), Some("github:zoe"));
        // Accounts at a provider cost little.
        for number in 0..2 * MAX_OF_PERSONS {
            refuse(format!("github:stranger-{number}"));
        }
        assert_eq!(reported().len(), MAX_OF_PERSONS - MAX_OF_PERSON - 1);
        tokio::time::advance(PERIOD).await;
        refuse("github:bob".to_owned());
        assert_eq!(reported().iter().map(principal).collect::<Vec<_>>(), ["github:bob"]);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_80_one_principal_fills_no_log() {
        let recorder = Arc::new(Recorder::default());
        let reports = AccessReports::new(recorder.clone());
        let sign_in = |principal: &str| {
            let principal = principal.to_owned();
            reports.signed_in(sender(1), SignedIn { principal, session: TokenDigest([2; 32]) });
        };
        let deny = |principal: &str| {
            reports.denied(DeniedCall {
                principal: principal.to_owned(),
                credential: "0202020202020202".to_owned(),
                address: None,
                project: None,
                rpc: "access.v1.AccessService/GrantEverywhere".to_owned(),
                request_id: "r".to_owned(),
            });
        };
        let reported = || std::mem::take(&mut *recorder.0.lock());
        let sign_out = |principal: &str| {
            let principal = principal.to_owned();
            reports.signed_out(sender(1), SignedOut { principal, session: TokenDigest([2; 32]) });
        };
        let events: [&dyn Fn(&str); 3] = [&sign_in, &sign_out, &deny];
        for (event, most) in events.into_iter().zip([MAX_OF_PRINCIPAL, MAX_OF_PRINCIPAL, MAX_DENIALS]) {
            for _ in 0..1_000 {
                event("prometheus");
            }
            event("ana");
            let found = reported();
            assert_eq!(found.len(), most + 1);
            assert_eq!(found.last().map(principal), Some("ana"));
            tokio::time::advance(PERIOD).await;
            event("prometheus");
            assert_eq!(reported().len(), 1);
        }
    }
}
