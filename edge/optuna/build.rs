//! Compiles the description of Optuna's storage service. It is not among the files of `proto/`, because it is not an API
//! of this product: reflection does not list it, and its rpcs declare no rights.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/storage.proto"], ["proto"])?;
    tonic_prost_build::configure().build_client(false).compile_fds(descriptors)?;
    Ok(())
}
