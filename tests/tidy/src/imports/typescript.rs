//! Imports between TypeScript and Svelte files.
//!
//! Two kinds of imports do not count: `import type`, which does not exist at run time, and `import()`, which loads a page
//! when it is opened. The list of pages has to lead to every page, and a page to the list.

use std::collections::BTreeSet;

use crate::{circles::Imports, documents::resolve, source::SourceFile};

/// Returns the imports among the files in a folder.
pub fn imports(files: &[SourceFile], folder: &str) -> Imports {
    let is_product = |file: &&SourceFile| file.path.starts_with(folder) && !file.path.contains(".test.");
    let files: Vec<&SourceFile> = files.iter().filter(is_product).collect();
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut imports = Imports::default();
    for file in &files {
        for source in sources(&file.text).into_iter().filter(|source| source.starts_with('.')) {
            let imported = resolve(&file.path, source);
            if paths.contains(imported.as_str()) {
                imports.add(&file.path, &imported);
            }
        }
    }
    imports
}

/// The sources that the import statements of a file name, and the `export` statements that re-export names.
fn sources(text: &str) -> Vec<&str> {
    let mut sources = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if is_import(line.trim_start()) {
            let statement = rest.split(';').next().unwrap_or_default();
            sources.extend(statement.split('\'').nth(1));
        }
        rest = after;
    }
    sources
}

fn is_import(line: &str) -> bool {
    let starts = ["import ", "export {", "export *"];
    starts.iter().any(|start| line.starts_with(start)) && !line.starts_with("import type ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_imports_are_found() {
        let text = "<script>\n  import {\n    b,\n  } from './b.ts';\n  import './c.ts';\n  export { d } from '../d.ts';\n";
        assert_eq!(sources(text), ["./b.ts", "./c.ts", "../d.ts"]);
        let text = "import type { B } from './b.ts';\nconst c = await import('./c.ts');\nexport const d = './d.ts';\n";
        assert!(sources(text).is_empty());
    }
}
