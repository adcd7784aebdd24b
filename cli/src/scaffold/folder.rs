//! Files written into a folder of their own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::files::NewFile;
use crate::failure::Failure;

/// What may lie in a folder that counts as empty.
const MAY_BE_THERE: &str = ".git";

/// Writes the files. A folder that holds something is refused before anything is written.
pub(super) fn write(folder: &Path, files: &[NewFile]) -> Result<(), Failure> {
    let failed = |path: &Path, source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => Failure::Exists {
            path: path.to_owned(),
        },
        _ => Failure::Unwritable {
            path: path.to_owned(),
            source,
        },
    };
    if !is_free(folder).map_err(|source| failed(folder, source))? {
        return Err(Failure::Exists {
            path: folder.to_owned(),
        });
    }
    for file in files {
        let path = folder.join(&file.path);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            // Whoever has put a file there in the meantime keeps it.
            File::create_new(&path)?.write_all(file.text.as_bytes())
        };
        write().map_err(|source| failed(&path, source))?;
    }
    Ok(())
}

fn is_free(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        if entry?.file_name() != MAY_BE_THERE {
            return Ok(false);
        }
    }
    Ok(true)
}
