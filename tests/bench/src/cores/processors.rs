//! The processors of this machine, divided between a server and the generator of its load.

use std::{collections::BTreeMap, fs};

use matyan_tests::cores;

pub(super) struct Processors {
    /// One thread of each physical core first, then the second threads.
    order: Vec<usize>,
    /// Number of physical cores.
    physical: usize,
}

/// Cores of a server, and the other ones.
pub(super) struct Split {
    pub(super) server: Vec<usize>,
    pub(super) generator: Vec<usize>,
}

impl Processors {
    /// The processors that this process may use.
    pub(super) fn allowed() -> Self {
        let allowed = cores::allowed().expect("Linux tells which cores a thread may use");
        Self::ordered(allowed, siblings)
    }

    /// `siblings` describes the threads of the physical core that a processor belongs to.
    fn ordered(allowed: Vec<usize>, siblings: impl Fn(usize) -> String) -> Self {
        let mut threads: BTreeMap<String, usize> = BTreeMap::new();
        let mut ranked = Vec::with_capacity(allowed.len());
        for processor in allowed {
            let before = threads.entry(siblings(processor)).or_default();
            ranked.push((*before, processor));
            *before += 1;
        }
        ranked.sort_unstable();
        let order = ranked.into_iter().map(|(_, processor)| processor).collect();
        Self { order, physical: threads.len() }
    }

    pub(super) fn describe(&self) -> String {
        let Self { order, physical } = self;
        let mut text = format!("{} cores that Linux schedules, on {physical} physical ones", order.len());
        if order.len() > *physical {
            let shared = format!(
                "; where server and generator have more than {physical} together, some share a physical core"
            );
            text.push_str(&shared);
        }
        text
    }

    /// The splits that fit, from a server on one core on. The goal ends at `most` cores.
    pub(super) fn splits(&self, most: usize) -> Vec<Split> {
        let sizes = sizes(most.max(self.order.len())).filter(|server| needed(*server) <= self.order.len());
        sizes
            .map(|server| {
                let (server, generator) = self.order.split_at(server);
                Split { server: server.to_vec(), generator: generator.to_vec() }
            })
            .collect()
    }

    /// The rows up to `most` cores that do not fit.
    pub(super) fn missing(&self, most: usize) -> Option<String> {
        let missing = sizes(most).filter(|server| needed(*server) > self.order.len());
        let missing: Vec<_> = missing.map(|server| format!("{server} (needs {})", needed(server))).collect();
        let have = self.order.len();
        let text = format!(
            "Not measured here, because this machine has {have} cores: a server on {} cores.",
            missing.join(", ")
        );
        (!missing.is_empty()).then_some(text)
    }
}

/// Numbers of cores of a server, up to `most`.
fn sizes(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |cores| Some(cores * 2)).take_while(move |cores| *cores <= most)
}

/// Cores for a server on this number of cores and for a generator, which needs at least half as many.
fn needed(server: usize) -> usize {
    server + server.div_ceil(2)
}

/// The list of threads of a physical core, or the processor itself if it is not known.
fn siblings(processor: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list");
    fs::read_to_string(path).unwrap_or_else(|_| processor.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(processors: usize, physical: usize) -> Processors {
        Processors::ordered((0..processors).collect(), |processor| (processor / 2 % physical).to_string())
    }

    fn sizes_of(processors: &Processors) -> Vec<[usize; 2]> {
        processors.splits(8).iter().map(|split| [split.server.len(), split.generator.len()]).collect()
    }

    #[test]
    fn threads_of_the_same_core_are_used_last() {
        let processors = of(8, 4);
        assert_eq!(processors.order, [0, 2, 4, 6, 1, 3, 5, 7]);
        assert_eq!(processors.physical, 4);
        let each = Processors::ordered(vec![3, 5], |processor| processor.to_string());
        assert_eq!(each.order, [3, 5]);
        assert_eq!(each.physical, 2);
    }

    #[test]
    fn a_machine_prints_the_rows_that_fit() {
        assert_eq!(sizes_of(&of(2, 1)), [[1, 1]]);
        assert_eq!(sizes_of(&of(16, 8)), [[1, 15], [2, 14], [4, 12], [8, 8]]);
        assert_eq!(sizes_of(&of(24, 12)), [[1, 23], [2, 22], [4, 20], [8, 16], [16, 8]]);
        assert!(sizes_of(&of(1, 1)).is_empty());
    }

    #[test]
    fn a_small_machine_names_the_missing_rows() {
        let text = of(2, 1).missing(8).unwrap();
        assert!(text.ends_with("a server on 2 (needs 3), 4 (needs 6), 8 (needs 12) cores."), "{text}");
        assert_eq!(of(12, 6).missing(8), None);
    }
}
