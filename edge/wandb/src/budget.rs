//! The budget of one GraphQL request. A document is bounded before it is executed, but at that time no one knows how
//! many runs, files and points its fields stand for. So resources are charged while the answer is built: calls and
//! their results by the channels, pages before they are read, lists before their objects are resolved, and values
//! when they are computed. A request that exceeds its budget makes no further calls, and is refused as a whole.
//!
//! The search for a single file of an artifact has the same budget. Each limit is far above what W&B's clients ask for: a
//! page of 1,000 runs needs about 2,000 calls and 60,000 fields.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;

use crate::error::{Result, WandbError};

/// Memory of all answers of a port that are being built, and of the manifests that it keeps.
pub(crate) const PORT_BYTES: u64 = 2 << 30;

/// Memory of all answers of a client that are being built. A client leaves a quarter to others, as in all limits of a port.
const CLIENT_BYTES: u64 = PORT_BYTES / 4 * 3;

/// Memory of a JSON value besides its text, and of the name of a member.
pub(crate) const VALUE_BYTES: usize = 32;

/// The resources of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Calls of services.
    Calls,
    /// Bytes that services return.
    ReadBytes,
    /// Bytes of memory.
    HeldBytes,
    /// Values of histories.
    Values,
    /// Rows on the pages of lists.
    Rows,
    /// Fields of the objects of lists.
    Fields,
}

/// Number of resources.
const RESOURCES: usize = 6;

impl Resource {
    const fn limit(self) -> u64 {
        match self {
            // The commit of an artifact asks for the size of each of its files, and W&B allows 100,000 files.
            Self::Calls => 200_000,
            // Fifty million points. The client gets only the points at the steps of a rarer metric.
            Self::ReadBytes => 2 << 30,
            // A history with a million values under long names.
            Self::HeldBytes => 512 << 20,
            Self::Values => 1_000_000,
            Self::Rows => 100_000,
            Self::Fields => 500_000,
        }
    }

    fn problem(self) -> String {
        let limit = self.limit();
        match self {
            Self::Calls => format!(
                "the request needs more than {limit} calls of services: ask for fewer runs or files at a time"
            ),
            Self::ReadBytes => {
                format!(
                    "the request reads more than {limit} bytes: ask for fewer steps, keys or runs at a time"
                )
            }
            Self::HeldBytes => {
                format!(
                    "the answer needs more than {limit} bytes: ask for fewer steps, keys or runs at a time"
                )
            }
            Self::Values => format!("the rows have more than {limit} values: ask for fewer steps or keys"),
            Self::Rows => format!("the lists have more than {limit} rows: ask for smaller pages by `first`"),
            Self::Fields => {
                format!("the lists have more than {limit} fields: ask for smaller pages by `first`")
            }
        }
    }
}

fn manifest_problem() -> String {
    let limit = Resource::HeldBytes.limit();
    format!(
        "reading the manifests of the artifact and of its earlier versions needs more than {limit} bytes: log fewer files, or \
         an archive of them"
    )
}

/// The memory that the answers of a port, and the manifests that it keeps, use at the moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerMemory(Arc<PortMemory>);

#[derive(Debug, Default)]
struct PortMemory {
    taken: AtomicU64,
    /// The part of each client that has requests.
    clients: Mutex<HashMap<String, Weak<AtomicU64>>>,
}

impl AnswerMemory {
    /// The part of a client, which all of its requests share.
    fn of_client(&self, client: String) -> Arc<AtomicU64> {
        let mut clients = self.0.clients.lock();
        if let Some(part) = clients.get(&client).and_then(Weak::upgrade) {
            return part;
        }
        clients.retain(|_, part| part.strong_count() > 0);
        let part = Arc::default();
        clients.insert(client, Arc::downgrade(&part));
        part
    }

    /// Takes memory for something that is kept after its request; `None` if there is not enough.
    pub(crate) fn take(&self, bytes: usize) -> Option<MemoryShare> {
        let taken = u64::try_from(bytes).unwrap_or(u64::MAX);
        let share = MemoryShare { memory: self.clone(), bytes };
        (add(&self.0.taken, taken) <= PORT_BYTES).then_some(share)
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// The memory that the requests of a client have taken.
    #[cfg(test)]
    pub(crate) fn taken_by(&self, client: &str) -> u64 {
        self.of_client(client.to_owned()).load(Ordering::Relaxed)
    }
}

/// Memory that is taken. Dropping the share returns it.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    memory: AnswerMemory,
    bytes: usize,
}

impl MemoryShare {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        let bytes = u64::try_from(self.bytes).unwrap_or(u64::MAX);
        self.memory.0.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The memory of an answer. Dropping the share returns the memory, once the answer is sent.
#[derive(Debug)]
pub struct AnswerShare {
    _budget: Arc<Budget>,
}

impl AnswerShare {
    /// The share for the answer to a request with this budget.
    pub(crate) fn new(budget: Arc<Budget>, answer_bytes: usize) -> Self {
        budget.end(answer_bytes);
        Self { _budget: budget }
    }
}

/// The budget of a request. Dropping it returns its memory.
#[derive(Debug)]
pub(crate) struct Budget {
    used: [AtomicU64; RESOURCES],
    memory: AnswerMemory,
    /// The part of the client; `None` if the request counts for no client.
    client_part: Option<Arc<AtomicU64>>,
    /// The part of the port's memory that the request has taken.
    taken: AtomicU64,
    refusal: OnceLock<WandbError>,
}

impl Budget {
    /// The budget of a request that counts for no client.
    #[cfg(test)]
    pub(crate) fn new(memory: AnswerMemory) -> Self {
        Self::of_client(memory, None)
    }

    /// The budget of a request of this client.
    pub(crate) fn of_client(memory: AnswerMemory, client: Option<String>) -> Self {
        let client_part = client.map(|client| memory.of_client(client));
        let taken = AtomicU64::new(0);
        Self { used: Default::default(), memory, client_part, taken, refusal: OnceLock::new() }
    }

    /// Charges a resource. After the first failure, all charges fail.
    pub(crate) fn charge(&self, resource: Resource, amount: usize) -> Result<()> {
        self.charge_or(resource, amount, || resource.problem())
    }

    /// Charges memory for the manifest of an artifact, which is not a part of an answer.
    pub(crate) fn charge_manifest(&self, amount: usize) -> Result<()> {
        self.charge_or(Resource::HeldBytes, amount, manifest_problem)
    }

    fn charge_or(&self, resource: Resource, amount: usize, problem: impl FnOnce() -> String) -> Result<()> {
        if let Some(refusal) = self.refusal.get() {
            return Err(refusal.clone());
        }
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        if add(&self.used[resource as usize], amount) > resource.limit() {
            return self.refuse(WandbError::invalid(problem()));
        }
        if resource == Resource::HeldBytes { self.take_from_port(amount) } else { Ok(()) }
    }

    /// Takes memory of the port besides the bytes that count for the limit of the request.
    pub(crate) fn take(&self, bytes: usize) -> Result<()> {
        if let Some(refusal) = self.refusal.get() {
            return Err(refusal.clone());
        }
        self.take_from_port(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    fn take_from_port(&self, amount: u64) -> Result<()> {
        add(&self.taken, amount);
        let of_client = self.client_part.as_deref().map_or(0, |part| add(part, amount));
        let problem = if add(&self.memory.0.taken, amount) > PORT_BYTES {
            "the server has no memory for further large answers at the moment: try again"
        } else if of_client > CLIENT_BYTES {
            "your requests have all the memory for large answers that one client may have: send fewer at a time, or try \
             again"
        } else {
            return Ok(());
        };
        self.refuse(WandbError::new(StatusCode::SERVICE_UNAVAILABLE, problem))
    }

    /// The memory of the port, and the part of the client.
    fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        [&self.memory.0.taken].into_iter().chain(self.client_part.as_deref())
    }

    /// The rest of a resource.
    pub(crate) fn left(&self, resource: Resource) -> u64 {
        resource.limit().saturating_sub(self.used[resource as usize].load(Ordering::Relaxed))
    }

    /// The memory of the request so far.
    pub(crate) fn held(&self) -> usize {
        usize::try_from(self.used[Resource::HeldBytes as usize].load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// The reason why the request is refused; `None` as long as it is not refused.
    pub(crate) fn refusal(&self) -> Option<&WandbError> {
        self.refusal.get()
    }

    /// Ends the request, whose answer has this size. Until the budget is dropped, only the answer uses memory.
    pub(crate) fn end(&self, answer_bytes: usize) {
        let answer_bytes = u64::try_from(answer_bytes).unwrap_or(u64::MAX);
        // Added first, so that the memory of the port is never less than the memory in use.
        for counter in self.counters() {
            add(counter, answer_bytes);
        }
        let taken = self.taken.swap(answer_bytes, Ordering::Relaxed);
        for counter in self.counters() {
            counter.fetch_sub(taken, Ordering::Relaxed);
        }
    }

    /// The part of the port's memory that the request has taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn refuse(&self, refusal: WandbError) -> Result<()> {
        Err(self.refusal.get_or_init(|| refusal).clone())
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let taken = *self.taken.get_mut();
        for counter in self.counters() {
            counter.fetch_sub(taken, Ordering::Relaxed);
        }
    }
}

/// Adds to a counter, and returns the sum.
fn add(counter: &AtomicU64, amount: u64) -> u64 {
    counter.fetch_add(amount, Ordering::Relaxed).saturating_add(amount)
}

/// The approximate memory of a value.
pub(crate) fn held_bytes(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(members) => members.iter().map(held_bytes).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| VALUE_BYTES + name.len() + held_bytes(member)).sum()
        }
    };
    VALUE_BYTES + inner
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALL: [Resource; RESOURCES] = [
        Resource::Calls,
        Resource::ReadBytes,
        Resource::HeldBytes,
        Resource::Values,
        Resource::Rows,
        Resource::Fields,
    ];

    #[test]
    fn rule_114_each_resource_has_a_limit_and_the_first_refusal_stays() {
        for resource in ALL {
            let budget = Budget::new(AnswerMemory::default());
            let limit = usize::try_from(resource.limit()).unwrap();
            assert_eq!(budget.charge(resource, limit - 1), Ok(()));
            assert_eq!(budget.charge(resource, 1), Ok(()));
            assert_eq!((budget.left(resource), budget.refusal()), (0, None));
            let refusal = WandbError::invalid(resource.problem());
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            assert_eq!(budget.charge(resource, 1), Err(refusal.clone()));
            for other in ALL {
                assert_eq!(budget.charge(other, 0), Err(refusal.clone()), "{resource:?} {other:?}");
            }
            assert_eq!(budget.refusal(), Some(&refusal));
        }
    }

    #[test]
    fn a_manifest_that_needs_too_much_memory_is_refused_with_advice() {
        let budget = Budget::new(AnswerMemory::default());
        budget.charge(Resource::HeldBytes, 1).unwrap();
        let limit = usize::try_from(Resource::HeldBytes.limit()).unwrap();
        let error = budget.charge_manifest(limit).unwrap_err();
        assert_eq!(error, WandbError::invalid(manifest_problem()));
        assert_eq!(budget.charge(Resource::Calls, 1), Err(error), "the first refusal stays");
    }

    #[test]
    fn rule_114_requests_share_the_memory_of_a_port_and_give_it_back() {
        let memory = AnswerMemory::default();
        let limit = usize::try_from(Resource::HeldBytes.limit()).unwrap();
        let budgets: Vec<Budget> =
            (0..PORT_BYTES / Resource::HeldBytes.limit()).map(|_| Budget::new(memory.clone())).collect();
        for budget in &budgets {
            assert_eq!(budget.charge(Resource::HeldBytes, limit), Ok(()));
        }
        let other = Budget::new(memory.clone());
        let refusal = other.charge(Resource::HeldBytes, 1).unwrap_err();
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE, "clients try again");
        drop(other);
        drop(budgets);
        assert_eq!(memory.taken(), 0);
        assert_eq!(Budget::new(memory).charge(Resource::HeldBytes, limit), Ok(()));
    }

    #[test]
    fn rule_114_a_client_leaves_memory_of_the_port_to_others() {
        let memory = AnswerMemory::default();
        let request = |client: &str| Budget::of_client(memory.clone(), Some(client.to_owned()));
        let half = usize::try_from(CLIENT_BYTES / 2).unwrap();
        let open = [request("ana"), request("ana")];
        for budget in &open {
            assert_eq!(budget.take(half), Ok(()));
        }
        let refusal = request("ana").take(1).unwrap_err();
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE, "clients try again");
        assert!(refusal.message.contains("your requests"), "{refusal}");
        assert_eq!(request("bo").take(half / 2), Ok(()));
        assert_eq!(Budget::new(memory.clone()).take(half / 2), Ok(()), "it counts for no client");
        open[0].end(1);
        assert_eq!(request("ana").take(half - 1), Ok(()));
        drop(open);
        assert_eq!((memory.taken(), memory.taken_by("ana")), (0, 0));
        let _other = request("bo");
        assert_eq!(memory.0.clients.lock().len(), 1, "a client without requests is forgotten");
    }

    #[test]
    fn rule_114_memory_of_the_port_may_be_taken_besides_the_limit_of_a_request() {
        let memory = AnswerMemory::default();
        let budget = Budget::new(memory.clone());
        let limit = usize::try_from(Resource::HeldBytes.limit()).unwrap();
        assert_eq!(budget.take(2 * limit), Ok(()));
        assert_eq!((budget.held(), budget.taken()), (0, 2 * Resource::HeldBytes.limit()));
        let refusal = budget.take(usize::try_from(PORT_BYTES).unwrap()).unwrap_err();
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE, "clients try again");
        assert_eq!(budget.charge(Resource::Calls, 1), Err(refusal.clone()));
        assert_eq!(budget.take(0), Err(refusal));
        drop(budget);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn names_and_texts_take_up_memory() {
        let text = "x".repeat(1_000);
        let held = |value: Value| held_bytes(&value);
        assert!(held(json!(text)) >= 1_000);
        assert!(held(json!({text.as_str(): 1})) >= 1_000);
        assert!(held(json!([text, [text]])) >= 2_000);
        assert!(held(json!([0, null, true])) >= 3 * VALUE_BYTES);
    }
}
