//! The `__system_params` of a run: how the script was started, and in which environment.

use std::path::PathBuf;

use matyan_value::{Map, Value};

use super::{environment, git, packages};

/// Facts of the script that only its own process knows.
#[derive(Clone, Debug, Default)]
pub struct SystemParamsInput {
    /// Path of the interpreter.
    pub executable: String,
    /// The command line, from the name of the script on.
    pub arguments: Vec<String>,
    /// Directories that modules are imported from.
    pub module_paths: Vec<PathBuf>,
    /// Working directory, whose repository is described.
    pub directory: PathBuf,
    /// Environment variables, with secrets; those are left out of the result.
    pub environment: Vec<(String, String)>,
}

/// Returns the tree that is stored below `__system_params`. Runs `git` and reads many files.
pub fn params(input: SystemParamsInput) -> Map {
    let arguments = environment::public_arguments(&input.arguments);
    let arguments = arguments.into_iter().map(Value::Text).collect();
    Map::from([
        ("executable".to_owned(), Value::Text(input.executable)),
        ("arguments".to_owned(), Value::List(arguments)),
        ("packages".to_owned(), Value::Map(packages::installed(&input.module_paths))),
        ("env_variables".to_owned(), Value::Map(environment::public_variables(input.environment))),
        ("git_info".to_owned(), Value::Map(git::revision(&input.directory))),
    ])
}
