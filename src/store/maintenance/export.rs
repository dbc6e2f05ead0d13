//! Writing the records of a store to a backup.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use sled::Tree;

use super::dump::{BackupError, DumpWriter, Header};
use crate::data_dir::TLS_FILES;

/// Writes every record of every tree, until `over` returns true.
pub(super) fn scan<'a, W: Write>(
    trees: impl IntoIterator<Item = &'a Tree>,
    dump: &mut DumpWriter<W>,
    over: impl Fn() -> bool,
) -> Result<(), BackupError> {
    for (n, tree) in (0u8..).zip(trees) {
        for entry in tree {
            let (key, value) = entry?;
            if over() {
                return Err(BackupError::TooMuchChanged);
            }
            dump.put(n, &key, &value)?;
        }
    }
    Ok(())
}

/// Writes the files beside the store in the data directory `data`.
///
/// # Errors
/// [`BackupError`].
pub(super) fn write_files<W: Write>(data: &Path, dump: &mut DumpWriter<W>) -> Result<(), BackupError> {
    for name in TLS_FILES {
        match fs::read(data.join(name)) {
            Ok(content) => dump.file(name, &content)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackupError::Io(error)),
        }
    }
    Ok(())
}

/// Writes a store that is not used meanwhile, with the files beside it in the data directory `data`.
///
/// # Errors
/// [`BackupError`].
pub(super) fn write_all<W: Write>(data: &Path, trees: &[Tree], header: &Header, sink: W) -> Result<W, BackupError> {
    let mut dump = DumpWriter::begin(sink, header)?;
    write_files(data, &mut dump)?;
    scan(trees, &mut dump, || false)?;
    Ok(dump.finish()?.0)
}
