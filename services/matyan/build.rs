//! Collects the files of the built web UI that are embedded in the program: the index page, and
//! everything else as it was compressed by the build of the UI. Without such a build nothing is
//! embedded.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    // Read when it runs: clones that share a target directory may share this script, too.
    let package = env::var_os("CARGO_MANIFEST_DIR").ok_or("Cargo sets CARGO_MANIFEST_DIR")?;
    let ui = Path::new(&package).join("../../ui");
    let built = ui.join("dist");
    // A path that does not exist would have Cargo run this script, and compile the program, each
    // time.
    for watched in [&built, &ui].into_iter().filter(|path| path.is_dir()).take(1) {
        println!("cargo:rerun-if-changed={}", watched.display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    let embedded = PathBuf::from(env::var_os("OUT_DIR").ok_or("Cargo sets OUT_DIR")?).join("ui");
    if embedded.exists() {
        fs::remove_dir_all(&embedded)?;
    }
    fs::create_dir_all(&embedded)?;
    if built.join("index.html").is_file() {
        copy(&built, &embedded)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if path.is_dir() {
            fs::create_dir_all(to.join(&name))?;
            copy(&path, &to.join(&name))?;
        } else if name == "index.html" || path.extension().is_some_and(|extension| extension == "gz") {
            fs::copy(&path, to.join(&name))?;
        }
    }
    Ok(())
}
