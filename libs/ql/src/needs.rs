//! The data that a query may read from a view, besides the document of the run, so that a search
//! loads no other kind of data before evaluation. It is an upper bound: a query that uses `run` as a
//! value needs everything.

use std::collections::BTreeSet;

use crate::names::{Property, SequenceField};
use crate::tree::Node;
use crate::view::KeyPath;

/// Some items, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NeedSet<T> {
    Only(BTreeSet<T>),
    All,
}

impl<T: Ord> NeedSet<T> {
    fn add(&mut self, item: T) {
        if let NeedSet::Only(items) = self {
            items.insert(item);
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, NeedSet::Only(items) if items.is_empty())
    }
}

/// Data required by a query. The run's own document is always available, but has only the ids of tags
/// and of the experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The run's name, which its document has.
    pub name: bool,
    /// The experiment's name.
    pub experiment: bool,
    /// The names of tags.
    pub tags: bool,
    /// The id of the parent.
    pub parent: bool,
    /// Params at and below these paths.
    pub params: NeedSet<KeyPath>,
    /// Sequences with these names, in addition to the sequence under evaluation.
    pub sequences: NeedSet<Box<str>>,
    /// Whether summaries are needed of these sequences and of the evaluated sequence.
    pub summaries: bool,
}

impl Needs {
    pub(crate) fn for_query(root: &Node) -> Self {
        let mut needs = Self {
            name: false,
            experiment: false,
            tags: false,
            parent: false,
            params: NeedSet::Only(BTreeSet::new()),
            sequences: NeedSet::Only(BTreeSet::new()),
            summaries: false,
        };
        root.walk(&mut |node| needs.add_node(node));
        needs
    }

    fn add_node(&mut self, node: &Node) {
        self.summaries |= reads_summary(node);
        match node {
            // A sequence refers to its run: `metric.run`.
            Node::Run | Node::Sequence | Node::SequenceField(SequenceField::Run) => {
                *self = Self {
                    name: true,
                    experiment: true,
                    tags: true,
                    parent: true,
                    params: NeedSet::All,
                    sequences: NeedSet::All,
                    summaries: true,
                };
            }
            Node::Tags => self.tags = true,
            Node::Property(Property::Name) => self.name = true,
            Node::Property(Property::Experiment) => self.experiment = true,
            Node::Param(lookup) => self.params.add(lookup.path.clone()),
            Node::ParamOr(lookup, property) => {
                self.params.add(lookup.path.clone());
                self.parent |= *property == Property::Parent;
            }
            Node::Metrics => self.sequences = NeedSet::All,
            Node::HasSequence(names) => {
                for name in names {
                    self.sequences.add(name.clone());
                }
            }
            Node::Metric(metric) => match metric.name.text() {
                Some(name) => self.sequences.add(name.into()),
                None => self.sequences = NeedSet::All,
            },
            _ => {}
        }
    }
}

/// Whether a node gives access to the summary of a sequence. A sequence used as a value may be
/// queried for anything.
fn reads_summary(node: &Node) -> bool {
    use SequenceField::{Context, Dtype, Name, Run};
    match node {
        Node::SequenceField(field) => !matches!(field, Name | Context | Dtype | Run),
        Node::Metric(_) | Node::Metrics => true,
        _ => false,
    }
}
