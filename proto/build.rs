//! Compiles every file under `proto/` with protox, so that no `protoc` needs to be installed, and
//! generates the limits, the statuses of error codes and the rights of rpcs from the descriptors, so that
//! each is defined in one place. An rpc that declares no right is an error.

use std::{
    collections::BTreeMap,
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
    let mut constants = String::new();
    let mut fields = String::new();
    for field in table.fields() {
        let name = field.name();
        let value = field.default_value().as_u32();
        let value = value.ok_or("a field of `Limits` is not a uint32 or has no default")?;
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
    let mut grpc = String::new();
    let mut http = String::new();
    for value in codes.values() {
        let options = value.options();
        let statuses = options.get_extension(&status);
        let statuses = statuses.as_message().ok_or("a code has no `status` option")?;
        let number = |name| statuses.get_field_by_name(name).map(|value| value.to_string());
        let grpc_status = number("grpc").ok_or("a `status` option has no `grpc`")?;
        let http_status = number("http").ok_or("a `status` option has no `http`")?;
        writeln!(grpc, "{} => {grpc_status},", value.number())?;
        writeln!(http, "{} => {http_status},", value.number())?;
    }
    let grpc = statuses_function("grpc", "i32", "Number of the gRPC status.", &grpc, 2);
    let http = statuses_function("http", "u16", "HTTP status.", &http, 500);
    Ok(format!("impl crate::common::v1::Code {{\n{grpc}\n{http}}}"))
}

fn statuses_function(name: &str, result: &str, doc: &str, arms: &str, unknown: u16) -> String {
    format!(
        "/// {doc}\npub const fn {name}(self) -> {result} {{\nmatch self as i32 {{\n{arms}_ => {unknown},\n}}\n}}\n"
    )
}

/// Generates the list of all rpcs with the right that each needs, sorted by path.
fn accesses(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let access = pool.get_extension_by_name("matyan.common.v1.access").ok_or("no extension `access`")?;
    let names = pool.get_enum_by_name("matyan.common.v1.Access").ok_or("no enum `Access`")?;
    let mut accesses = BTreeMap::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let options = method.options();
        let number = options.get_extension(&access).as_enum_number().filter(|number| *number != 0);
        let number = number.ok_or_else(|| {
            format!(
                "the rpc {path} does not say who may call it: add `option (matyan.common.v1.access) = …;`"
            )
        })?;
        let name = names.get_value(number).ok_or_else(|| format!("{path} needs an unknown right"))?;
        accesses.insert(path, rust_name(name.name()));
    }
    let mut rows = String::new();
    for (path, name) in &accesses {
        writeln!(rows, "({path:?}, Access::{name}),")?;
    }
    let count = accesses.len();
    Ok(format!("use crate::common::v1::Access;\npub static ALL: [(&str, Access); {count}] = [\n{rows}];\n"))
}

/// The name that prost gives to a value of an enum: `Read` for `ACCESS_READ`.
fn rust_name(name: &str) -> String {
    let name = name.trim_start_matches("ACCESS_").to_ascii_lowercase();
    let (first, rest) = name.split_at(1);
    first.to_ascii_uppercase() + rest
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
    std::fs::write(out.join("accesses.rs"), accesses(&pool)?)?;
    std::fs::write(out.join("statuses.rs"), statuses(&pool)?)?;
    let generator = tonic_prost_build::configure().bytes(".").include_file("packages.rs");
    // The codec finds the layout of a message by its name.
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    generator
        .codec_path("crate::codec::MatyanCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
