//! Imports between the files of a Python package.
//!
//! Imports inside functions count: many are there only because the file could not be loaded otherwise. Imports under
//! `if TYPE_CHECKING:` do not count, because they do not exist at run time.

use std::collections::BTreeSet;

use crate::{circles::Imports, source::SourceFile};

/// Returns the imports among the files in a folder, which is a root of packages.
pub fn imports(files: &[SourceFile], folder: &str) -> Imports {
    let files: Vec<&SourceFile> = files.iter().filter(|file| file.path.starts_with(folder)).collect();
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut imports = Imports::default();
    for file in &files {
        for statement in statements(&file.text) {
            for names in alternatives(file, folder, &statement) {
                if let Some(imported) = names.iter().find_map(|name| module_file(&paths, folder, name)) {
                    imports.add(&file.path, &imported);
                }
            }
        }
    }
    imports
}

/// The import statements of a file, each in one line and without parentheses.
fn statements(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut is_in_string = false;
    let mut type_checking: Option<usize> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let was_in_string = is_in_string;
        is_in_string ^= code.matches("\"\"\"").count() % 2 == 1;
        if was_in_string || code.is_empty() {
            continue;
        }
        if type_checking.is_some_and(|outer| indent > outer) {
            continue;
        }
        type_checking = (code == "if TYPE_CHECKING:").then_some(indent);
        let is_import = code.starts_with("import ");
        let is_from_import = code.starts_with("from ") && code.contains(" import ");
        if !is_import && !is_from_import {
            continue;
        }
        let mut statement = without_comment(code).to_owned();
        while statement.contains('(') && !statement.contains(')') {
            let Some(line) = lines.next() else { break };
            statement.push_str(without_comment(line));
        }
        statements.push(statement.replace(['(', ')'], " "));
    }
    statements
}

fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

/// For each imported name, the modules that may be imported, the likeliest first: `from a import b` imports the module
/// `a.b` if it exists, and otherwise a name of the module `a`.
fn alternatives(file: &SourceFile, folder: &str, statement: &str) -> Vec<Vec<String>> {
    let names = |list: &str| -> Vec<String> {
        let names = list.split(',').filter_map(|name| name.split_whitespace().next());
        names.map(str::to_owned).collect()
    };
    if let Some(list) = statement.strip_prefix("import ") {
        return names(list).into_iter().map(|name| vec![name]).collect();
    }
    let statement = statement.trim_start_matches("from ");
    let (from, list) = statement.split_once(" import ").expect("a `from` has an `import`");
    let from = absolute(file, folder, from.trim());
    names(list).into_iter().map(|name| vec![format!("{from}.{name}"), from.clone()]).collect()
}

/// Replaces the dots at the start of a module's name by the packages that they mean.
fn absolute(file: &SourceFile, folder: &str, module: &str) -> String {
    let name = module.trim_start_matches('.');
    let levels = module.len() - name.len();
    if levels == 0 {
        return module.to_owned();
    }
    let inside = file.path.trim_start_matches(folder).trim_start_matches('/');
    let mut packages: Vec<&str> = inside.split('/').collect();
    packages.truncate(packages.len().saturating_sub(levels));
    packages.extend(Some(name).filter(|name| !name.is_empty()));
    packages.join(".")
}

fn module_file(paths: &BTreeSet<&str>, folder: &str, module: &str) -> Option<String> {
    let path = format!("{folder}/{}", module.replace('.', "/"));
    let endings = [".py", ".pyi", "/__init__.py"];
    endings.iter().map(|ending| format!("{path}{ending}")).find(|path| paths.contains(path.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let names = ["a/__init__.py", "a/b.py", "a/c/__init__.py", "a/c/d.py", "a/c/e.py"];
        let empty = |name: &&str| SourceFile { path: format!("src/{name}"), text: String::new() };
        let mut files: Vec<SourceFile> = names.iter().map(empty).collect();
        files[4].text = text.to_owned();
        let expected: Vec<String> = expected.iter().map(|name| format!("src/{name}")).collect();
        assert_eq!(imports(&files, "src").of("src/a/c/e.py"), expected, "{text}");
    }

    #[test]
    fn imports_are_found() {
        check("import os\nimport a.b as f, a.c.d\n", &["a/b.py", "a/c/d.py"]);
        check(
            "from a import b\nfrom . import F\nfrom .d import G\n",
            &["a/b.py", "a/c/__init__.py", "a/c/d.py"],
        );
        check("from ..b import (  # why\n    F,\n    G,\n)\n", &["a/b.py"]);
        check("def f():\n    from .. import b\n", &["a/b.py"]);
    }

    #[test]
    fn imports_for_type_checkers_and_in_texts_are_not() {
        check(
            "if TYPE_CHECKING:\n    from a import b\n\n    from . import d\nimport a\n",
            &["a/__init__.py"],
        );
        check("\"\"\"Text.\n\nfrom a import b\n\"\"\"\n", &[]);
    }
}
