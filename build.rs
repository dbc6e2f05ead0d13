//! Compresses what the program serves as files: the documents of `docs/api`.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=docs/api");
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("cargo sets OUT_DIR"))?;
    for name in ["openapi.json", "asyncapi.json"] {
        let content = fs::read(Path::new("docs/api").join(name))?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&content)?;
        fs::write(Path::new(&out).join(format!("{name}.gz")), encoder.finish()?)?;
    }
    Ok(())
}
