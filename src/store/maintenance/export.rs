//! Writing the records of a store to a backup.

use std::io::Write;

use sled::Tree;

use super::dump::{BackupError, DumpWriter, Header};

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

/// Writes a store that is not used meanwhile.
///
/// # Errors
/// [`BackupError`].
pub(super) fn write_all<W: Write>(trees: &[Tree], header: &Header, sink: W) -> Result<W, BackupError> {
    let mut dump = DumpWriter::begin(sink, header)?;
    scan(trees, &mut dump, || false)?;
    Ok(dump.finish()?.0)
}
