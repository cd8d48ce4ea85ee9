//! Circles: files that import each other, directly or through others.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

/// The files that each file imports.
#[derive(Debug, Default)]
pub struct Imports(BTreeMap<String, BTreeSet<String>>);

/// Files that each import all others, directly or through others.
#[derive(Debug)]
pub struct Circle {
    pub files: BTreeSet<String>,
    /// A shortest way along imports from one of the files back to itself.
    way: Vec<String>,
}

impl Imports {
    pub fn add(&mut self, file: &str, imported: &str) {
        if file != imported {
            self.0.entry(file.to_owned()).or_default().insert(imported.to_owned());
        }
    }

    /// Returns the files that a file imports.
    pub fn of(&self, file: &str) -> Vec<&str> {
        self.0.get(file).into_iter().flatten().map(String::as_str).collect()
    }

    /// The number of imports: each file counts once for each other file that imports it.
    pub fn count(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Returns the circles in the order of their first files.
    pub fn circles(&self) -> Vec<Circle> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.0.keys().map(|file| (file.as_str(), self.reachable(file))).collect();
        let mut circles: BTreeMap<&str, Circle> = BTreeMap::new();
        for (file, others) in &reached {
            let returns = |other: &&str| reached.get(other).is_some_and(|back| back.contains(file));
            let files: BTreeSet<&str> = others.iter().copied().filter(returns).collect();
            let Some(first) = files.first() else { continue };
            let way = self.way_back(file);
            if circles.get(first).is_none_or(|known| way.len() < known.way.len()) {
                let files = files.iter().map(|file| (*file).to_owned()).collect();
                circles.insert(first, Circle { files, way });
            }
        }
        circles.into_values().collect()
    }

    /// Every file that a file imports, directly or through others: itself, too, if it is in a circle.
    fn reachable(&self, start: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(file) = open.pop() {
            for imported in self.of(file) {
                if reached.insert(imported) {
                    open.push(imported);
                }
            }
        }
        reached
    }

    /// A shortest way from a file in a circle back to itself.
    fn way_back(&self, start: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut ways = VecDeque::from([vec![start.to_owned()]]);
        while let Some(way) = ways.pop_front() {
            for imported in way.last().into_iter().flat_map(|file| self.of(file)) {
                let mut longer = way.clone();
                longer.push(imported.to_owned());
                if imported == start {
                    return longer;
                }
                if seen.insert(imported) {
                    ways.push_back(longer);
                }
            }
        }
        unreachable!("{start} is in a circle")
    }
}

impl Circle {
    /// The first of the files in alphabetical order, by which a circle is known.
    pub fn first(&self) -> &str {
        self.files.first().expect("a circle has files")
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circle of {} files: {}", self.files.len(), self.way.join(" imports "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_shows_its_shortest_way() {
        let mut imports = Imports::default();
        for (file, imported) in [("a", "b"), ("b", "c"), ("c", "a"), ("c", "b"), ("c", "d"), ("e", "a")] {
            imports.add(file, imported);
        }
        let circles: Vec<_> = imports.circles().iter().map(Circle::to_string).collect();
        assert_eq!(circles, ["circle of 3 files: b imports c imports b"]);
    }
}
