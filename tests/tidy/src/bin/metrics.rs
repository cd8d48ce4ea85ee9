//! Prints metrics of this repository's source: sizes, names, language, structure and commits.
//! `make metrics` runs it. If given a directory, it measures another checkout.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{self, Write},
    path::Path,
};

use matyan_tidy::{
    imports,
    items::{Items, items},
    prose,
    source::{Repository, SourceFile},
    words,
};

fn main() -> io::Result<()> {
    let repository = env::args().nth(1).map_or_else(Repository::own, |root| Repository::at(Path::new(&root)));
    let files = repository.rust_files();
    let product: Vec<&SourceFile> = files.iter().filter(|file| !file.is_test()).collect();
    let parsed: Vec<(&SourceFile, Items)> = product.iter().map(|file| (*file, items(file))).collect();
    let mut table = Table::default();
    sizes(&mut table, &repository, &files, &parsed);
    habits(&mut table, &product, &parsed);
    names(&mut table, &parsed);
    language(&mut table, &files);
    table.row("circles of files", imports::circles(&product).len().to_string());
    table.row("identical runs of 6+ lines per 1k product lines", duplicates(&product));
    commits(&mut table, &repository);
    table.print()
}

#[derive(Default)]
struct Table(Vec<(&'static str, String)>);

impl Table {
    fn row(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    fn print(&self) -> io::Result<()> {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut out = io::stdout().lock();
        self.0.iter().try_for_each(|(name, value)| writeln!(out, "| {name:width$} | {value} |"))
    }
}

/// Median, 90th and 99th percentile, and maximum.
fn spread(mut values: Vec<usize>) -> String {
    values.sort_unstable();
    let at = |percent: usize| values.get((values.len() * percent / 100).min(values.len().saturating_sub(1)));
    let numbers = [50, 90, 99, 100].map(|percent| at(percent).copied().unwrap_or_default().to_string());
    numbers.join(" / ")
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1}", part as f64 * 100.0 / whole.max(1) as f64)
}

fn per(part: usize, whole: usize, unit: f64) -> String {
    format!("{:.2}", part as f64 * unit / whole.max(1) as f64)
}

fn sizes(table: &mut Table, repository: &Repository, files: &[SourceFile], parsed: &[(&SourceFile, Items)]) {
    let manifests = repository.paths().into_iter().filter(|path| path.ends_with("Cargo.toml")).count();
    let code: Vec<usize> = parsed.iter().map(|(file, _)| file.code_lines()).collect();
    let total: usize = code.iter().sum();
    let functions = parsed.iter().flat_map(|(_, items)| &items.functions).map(|function| function.lines);
    let functions: Vec<usize> = functions.collect();
    table.row("packages / Rust files", format!("{} / {}", manifests - 1, files.len()));
    table.row("product code, lines", total.to_string());
    table.row("functions", functions.len().to_string());
    table.row("traits", parsed.iter().map(|(_, items)| items.traits.len()).sum::<usize>().to_string());
    let lines = parsed.iter().map(|(file, _)| file.text.lines().count()).collect();
    table.row("file, median / p90 / p99 / max", spread(lines));
    table.row("code per file, median / p90 / p99 / max", spread(code.clone()));
    table.row("function, median / p90 / p99 / max", spread(functions));
    table.row("files per 1k code lines", per(parsed.len(), total, 1_000.0));
    let small = parsed.iter().filter(|(file, _)| file.text.lines().count() < 50).count();
    table.row("files under 50 lines, %", percent(small, parsed.len()));
    let largest = parsed.iter().flat_map(|(_, items)| &items.traits).max_by_key(|(_, methods)| *methods);
    table.row(
        "largest trait, methods",
        largest.map(|(name, methods)| format!("{methods} ({name})")).unwrap_or_default(),
    );
    let fields = parsed.iter().flat_map(|(_, items)| &items.types).map(|item| item.fields).max();
    table.row("largest struct, fields", fields.unwrap_or_default().to_string());
}

fn habits(table: &mut Table, product: &[&SourceFile], parsed: &[(&SourceFile, Items)]) {
    let code: usize = product.iter().map(|file| file.code_lines()).sum();
    let count = |pattern: &str| product.iter().map(|file| file.product_text().matches(pattern).count()).sum();
    table.row("`unwrap` per 1k", per(count(".unwrap()"), code, 1_000.0));
    table.row("`expect` per 1k", per(count(".expect("), code, 1_000.0));
    table.row("panics per 1k", per(count("panic!(") + count("unreachable!("), code, 1_000.0));
    let lines = || product.iter().flat_map(|file| file.product_text().lines().map(str::trim));
    let filled = lines().filter(|line| !line.is_empty()).count();
    let doc = lines().filter(|line| line.starts_with("///") || line.starts_with("//!")).count();
    let plain = lines().filter(|line| line.starts_with("//")).count() - doc;
    table.row(
        "doc / plain comments, % of lines",
        format!("{} / {}", percent(doc, filled), percent(plain, filled)),
    );
    let headed = product.iter().filter(|file| file.text.starts_with("//! ")).count();
    table.row("files with a `//!` header, %", percent(headed, product.len()));
    let tested = product.iter().filter(|file| file.text.contains("#[cfg(test)]")).count();
    table.row("files with tests of their own, %", percent(tested, product.len()));
    let sum = |of: fn(&Items) -> usize| parsed.iter().map(|(_, items)| of(items)).sum::<usize>();
    let (public, within) = (sum(|items| items.public), sum(|items| items.crate_public));
    table.row(
        "`pub` / `pub(crate)` per 1k",
        format!("{} / {}", per(public, code, 1_000.0), per(within, code, 1_000.0)),
    );
}

fn is_one_word(name: &str) -> bool {
    !name.contains('_') && name.chars().skip(1).all(|c| !c.is_uppercase())
}

fn names(table: &mut Table, parsed: &[(&SourceFile, Items)]) {
    let mut types: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut definitions = 0;
    for (file, items) in parsed {
        for item in &items.types {
            types.entry(&item.name).or_default().insert(&file.path);
            definitions += 1;
        }
    }
    let rejected = words::rejected_type_names();
    let named_so = types.iter().filter(|(name, _)| rejected.contains(**name)).map(|(_, files)| files.len());
    let common: usize = types.values().map(BTreeSet::len).filter(|files| *files >= 3).sum();
    let one_word: usize =
        types.iter().filter(|(name, _)| is_one_word(name)).map(|(_, files)| files.len()).sum();
    table.row("types", definitions.to_string());
    table.row("types named by a participle, pronoun or preposition", named_so.sum::<usize>().to_string());
    table.row("one-word type names, %", percent(one_word, definitions));
    table.row("definitions whose type name occurs in 3+ files, %", percent(common, definitions));
    let functions: Vec<_> = parsed.iter().flat_map(|(_, items)| &items.functions).collect();
    let one_word = functions.iter().filter(|function| is_one_word(&function.name)).count();
    table.row("one-word function names, %", percent(one_word, functions.len()));
    let one_word = parsed.iter().filter(|(file, _)| is_one_word(file.stem())).count();
    table.row("one-word file names, %", percent(one_word, parsed.len()));
}

fn language(table: &mut Table, files: &[SourceFile]) {
    let (dialect, openings) = (words::dialect(), words::openings());
    let (mut total, mut found, mut blocks, mut headless) = (0, 0, 0, 0);
    for file in files {
        for passage in prose::passages(file).iter().filter(|passage| passage.is_comment) {
            let words = words::split(&passage.text);
            total += words.len();
            found += dialect.iter().map(|phrase| phrase.count(&words)).sum::<usize>();
            blocks += 1;
            let first = passage.text.split_whitespace().next().unwrap_or_default();
            headless += usize::from(passage.is_doc && openings.contains(first));
        }
    }
    table.row("comment words", total.to_string());
    table.row("rejected words per 10k comment words", per(found, total, 10_000.0));
    table.row("comments that begin with What, Who, Of, …, %", percent(headless, blocks));
}

/// Runs of six or more lines that occur in two files, blank lines, comments, imports and lone punctuation left out.
fn duplicates(product: &[&SourceFile]) -> String {
    const RUN: usize = 6;
    let mut windows: BTreeMap<Vec<&str>, Vec<(usize, usize)>> = BTreeMap::new();
    let mut code = 0;
    for (number, file) in product.iter().enumerate() {
        let lines = file.product_text().lines().map(str::trim);
        let is_counted = |line: &&str| line.len() > 3 && !line.starts_with("//") && !line.starts_with("use ");
        let lines: Vec<&str> = lines.filter(is_counted).collect();
        code += file.code_lines();
        for (at, window) in lines.windows(RUN).enumerate() {
            windows.entry(window.to_vec()).or_default().push((number, at));
        }
    }
    let repeated: BTreeSet<(usize, usize)> = windows
        .into_values()
        .filter(|places| places.len() > 1)
        .flat_map(|places| places.into_iter().skip(1))
        .collect();
    let runs = repeated.iter().filter(|(file, at)| *at == 0 || !repeated.contains(&(*file, at - 1))).count();
    per(runs, code, 1_000.0)
}

/// The last 200 commits.
fn commits(table: &mut Table, repository: &Repository) {
    let log = repository
        .output("git", &["log", "-n", "200", "--no-merges", "--shortstat", "--format=%x01%s%x02%b%x03"]);
    let (mut lines, mut bodies, mut imperative, mut count) = (Vec::new(), 0, 0, 0);
    for entry in log.split('\u{1}').skip(1) {
        let (subject, rest) = entry.split_once('\u{2}').unwrap_or((entry, ""));
        let (body, stat) = rest.split_once('\u{3}').unwrap_or((rest, ""));
        let numbers =
            stat.split(',').skip(1).filter_map(|part| part.split_whitespace().next()?.parse::<usize>().ok());
        lines.push(numbers.sum());
        count += 1;
        bodies += usize::from(!body.trim().is_empty());
        imperative += usize::from(is_imperative(subject));
    }
    table.row("changed lines per commit, median / p90 / p99 / max", spread(lines));
    table.row("commits with a body, %", percent(bodies, count));
    table.row("imperative subjects, %", percent(imperative, count));
}

/// Whether the first word after the area is a known verb.
fn is_imperative(subject: &str) -> bool {
    let Some((_, text)) = subject.split_once(": ") else { return false };
    let first = text.split_whitespace().next().unwrap_or_default().to_lowercase();
    words::entries(include_str!("../../words/commit_verbs.txt")).any(|verb| verb == first)
}
