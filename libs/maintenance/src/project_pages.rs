//! Iteration over pages of rows of several projects.

use matyan_model::ids::{NamedProject, Project};
use matyan_store::{Key, Range};

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

    /// Leaves out the projects before one, and its rows up to a key. Without that project, nothing is
    /// left out.
    pub(crate) fn skip_to(&mut self, project: Project, last: &Key) {
        let place = self.projects.as_slice().iter().position(|named| named.number == project);
        if let Some(named) = place.and_then(|place| self.projects.nth(place)) {
            self.current = Some((named, (self.range_of)(project).after(last)));
        }
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
