//! Iteration over pages of rows of several projects.

use matyan_model::ids::{NamedProject, Project};
use matyan_store::Range;

/// The ranges of rows still to be read.
pub(crate) struct ProjectPages {
    projects: std::vec::IntoIter<NamedProject>,
    range_of: fn(Project) -> Range,
    current: Option<(NamedProject, Range)>,
}

impl ProjectPages {
    pub(crate) fn new(projects: Vec<NamedProject>, range_of: fn(Project) -> Range) -> Self {
        Self { projects: projects.into_iter(), range_of, current: None }
    }

    /// Returns the next range to read a page from. The caller must return the unread rest
    /// with `give_back`.
    pub(crate) fn next(&mut self) -> Option<(NamedProject, Range)> {
        self.current.take().or_else(|| {
            let project = self.projects.next()?;
            let range = (self.range_of)(project.number);
            Some((project, range))
        })
    }

    /// Returns the rest of a range after its first page was read.
    pub(crate) fn give_back(&mut self, project: &NamedProject, rest: Option<Range>) {
        self.current = rest.map(|rest| (project.clone(), rest));
    }
}
