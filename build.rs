//! Compresses what the program serves to browsers: the page, unless the feature `console` is off, and the descriptions of the API. The
//! program holds only the compressed files.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, io};

use flate2::{Compression, GzBuilder};

/// The types of the page's files. Others (notes, declarations of types) are not served.
const SERVED: [&str; 6] = ["html", "js", "css", "svg", "png", "webmanifest"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/web/page");
    println!("cargo::rerun-if-changed=docs/api");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let target = out.join("web");
    if target.exists() {
        fs::remove_dir_all(&target)?; // files that have been removed must not stay
    }
    fs::create_dir_all(&target)?;
    if env::var_os("CARGO_FEATURE_CONSOLE").is_some() {
        compress(Path::new("src/web/page"), &target.join("page"), &SERVED)?;
    }
    if Path::new("docs/api").exists() {
        compress(Path::new("docs/api"), &target.join("api"), &["json"])?;
    }
    // Written here, since the attribute takes no variables without a crate that expands them, and its dependencies.
    let files = format!(
        "/// The files, each as gzip under its own name: `page/…` and `api/…`.\n#[derive(RustEmbed)]\n#[folder = {:?}]\nstruct Files;\n",
        target.to_str().ok_or("OUT_DIR is not UTF-8")?,
    );
    Ok(fs::write(out.join("files.rs"), files)?)
}

/// Writes the files below `from` with one of the `extensions` below `to`, each as gzip under its own name. The same file makes the same
/// bytes: no name and no time is in them.
fn compress(from: &Path, to: &Path, extensions: &[&str]) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if path.is_dir() {
            compress(&path, &target, extensions)?;
        } else if path.extension().and_then(|extension| extension.to_str()).is_some_and(|known| extensions.contains(&known)) {
            let mut encoder = GzBuilder::new().write(File::create(target)?, Compression::best());
            encoder.write_all(&fs::read(&path)?)?;
            encoder.finish()?;
        }
    }
    Ok(())
}
