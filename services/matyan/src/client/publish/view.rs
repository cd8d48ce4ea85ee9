//! The pages of a named view, and the runs that it names.

use super::{columns::list_of, document::View};

/// The pages of a view, in the order in which the web UI looks for the first of them, and their folders at the root of a
/// copy. The folders of runs are in the folder of the table of runs.
pub(super) const PAGES: [&str; 5] = ["runs", "metrics", "params", "media", "compare"];
const MEDIA: &str = "media";
/// Fields of an address with the ids of runs that are compared, kept on top, or shown alone, even if its query does not
/// find them.
const NAMED_RUNS: [&str; 4] = ["runs", "pins", "baseline", "only"];

impl View {
    /// The pages of a copy, starting with the page with which it opens.
    pub(super) fn copied_pages(&self, has_media: bool) -> Vec<&'static str> {
        let first = PAGES.into_iter().find(|page| self.pages.contains_key(*page)).unwrap_or("runs");
        let others = PAGES.into_iter().filter(|page| *page != first && (*page != MEDIA || has_media));
        [first].into_iter().chain(others).collect()
    }

    pub(super) fn has_media(&self) -> bool {
        self.pages.contains_key(MEDIA)
    }

    pub(super) fn query(&self) -> String {
        field(&self.scope, "q").unwrap_or_default()
    }

    /// Ids of the runs that the view names.
    pub(super) fn named_runs(&self) -> Vec<String> {
        let states = [&self.scope].into_iter().chain(self.pages.values());
        let lists = states.flat_map(|state| NAMED_RUNS.iter().filter_map(|name| field(state, name)));
        lists.flat_map(|list| list_of(&list)).collect()
    }
}

/// A field of the query of an address.
fn field(query: &str, name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(query.as_bytes());
    fields.find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(scope: &str, pages: &[(&str, &str)]) -> View {
        let pages = pages.iter().map(|(page, state)| ((*page).to_owned(), (*state).to_owned()));
        View {
            id: "v1".to_owned(),
            name: "Sweep".to_owned(),
            scope: scope.to_owned(),
            pages: pages.collect(),
        }
    }

    #[test]
    fn a_view_opens_with_the_first_page_that_was_saved() {
        let own = view("", &[("params", "view=scatter"), ("metrics", "m=loss")]);
        assert_eq!(own.copied_pages(false), ["metrics", "runs", "params", "compare"]);
        assert_eq!(view("", &[("media", "")]).copied_pages(true)[0], "media");
        assert_eq!(view("", &[]).copied_pages(false), ["runs", "metrics", "params", "compare"]);
    }

    #[test]
    fn a_view_names_its_query_and_its_runs() {
        let own =
            view("q=run.hparams.lr+%3C+1&baseline=a", &[("compare", "runs=b%2Cc"), ("runs", "sort=name")]);
        assert_eq!(own.query(), "run.hparams.lr < 1");
        assert_eq!(own.named_runs(), ["a", "b", "c"]);
        assert_eq!(view("hide=a", &[]).query(), "");
        assert_eq!(view("q=a+b%20%c3%a9%", &[]).query(), "a b é%");
    }
}
