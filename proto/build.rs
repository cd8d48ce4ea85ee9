//! Compiles every file under `proto/` with protox, so that no `protoc` needs to be installed, and
//! generates the limits and the statuses of error codes from the descriptors, so that each is defined
//! in one place.

use std::{
    error::Error,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use prost_reflect::DescriptorPool;

fn proto_files(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// Generates one constant for each field of `Limits`, with the default of the field as its value, and
/// a function that returns the message with all fields set.
fn limits(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let table = pool.get_message_by_name("matyan.common.v1.Limits").ok_or("no message `Limits`")?;
    let (mut constants, mut fields) = (String::new(), String::new());
    for field in table.fields() {
        let (name, value) = (
            field.name(),
            field.default_value().as_u32().ok_or("a field of `Limits` is not a uint32 or has no default")?,
        );
        writeln!(constants, "pub const {}: usize = {value};", name.to_uppercase())?;
        writeln!(fields, "{name}: Some({value}),")?;
    }
    let result = "crate::common::v1::Limits";
    Ok(format!("{constants}\npub const fn message() -> {result} {{\n{result} {{\n{fields}}}\n}}\n"))
}

/// Generates `Code::grpc` and `Code::http` from the `status` option of each code.
fn statuses(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let codes = pool.get_enum_by_name("matyan.common.v1.Code").ok_or("no enum `Code`")?;
    let status = pool.get_extension_by_name("matyan.common.v1.status").ok_or("no extension `status`")?;
    let (mut grpc, mut http) = (String::new(), String::new());
    for value in codes.values() {
        let options = value.options();
        let statuses = options.get_extension(&status);
        let statuses = statuses.as_message().ok_or("a code has no `status` option")?;
        let number = |name| statuses.get_field_by_name(name).map(|value| value.to_string());
        let (grpc_status, http_status) = (
            number("grpc").ok_or("a `status` option has no `grpc`")?,
            number("http").ok_or("a `status` option has no `http`")?,
        );
        writeln!(grpc, "{} => {grpc_status},", value.number())?;
        writeln!(http, "{} => {http_status},", value.number())?;
    }
    let name = statuses_function("grpc", "i32", "Number of the gRPC status.", &grpc, 2);
    Ok(format!("impl Code {{\n{name}\n{}}}", statuses_function("http", "u16", "HTTP status.", &http, 500)))
}

fn statuses_function(name: &str, result: &str, doc: &str, arms: &str, unknown: u16) -> String {
    format!(
        "/// {doc}\npub const fn {name}(self) -> {result} {{\nmatch self as i32 {{\n{arms}_ => {unknown},\n}}\n}}\n"
    )
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    proto_files(Path::new("proto"), &mut files)?;
    files.sort();
    println!("cargo:rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // The compiler encodes the descriptors, because prost's own types drop custom options.
    let descriptors = compiler.encode_file_descriptor_set();
    let pool = DescriptorPool::decode(descriptors.as_slice())?;
    std::fs::write(out.join("descriptors.bin"), descriptors)?;
    std::fs::write(out.join("limits.rs"), limits(&pool)?)?;
    std::fs::write(out.join("statuses.rs"), statuses(&pool)?)?;
    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
