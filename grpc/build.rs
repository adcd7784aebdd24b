//! Makes the code of the .proto files, and keeps what they say with their comments.

use std::path::PathBuf;

const FILES: [&str; 13] = [
    "tasker/v1/analytics.proto",
    "tasker/v1/bulk.proto",
    "tasker/v1/dead_letters.proto",
    "tasker/v1/domain_events.proto",
    "tasker/v1/events.proto",
    "tasker/v1/namespaces.proto",
    "tasker/v1/schedules.proto",
    "tasker/v1/signals.proto",
    "tasker/v1/steps.proto",
    "tasker/v1/system.proto",
    "tasker/v1/tasks.proto",
    "tasker/v1/templates.proto",
    "tasker/v1/workers.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true);
    compiler.include_source_info(true);
    compiler.open_files(FILES)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
