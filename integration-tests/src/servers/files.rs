//! Files: a server's directory of data, removed, or put in the place of another.

use std::{fs, io, path::Path};

/// Removes a directory, if it is there.
pub(crate) fn remove(dir: &Path) -> Result<(), String> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("{}: {error}", dir.display())),
        _ => Ok(()),
    }
}

/// Puts a copy of one directory in the place of another.
pub(crate) fn replace(old: &Path, new: &Path) -> Result<(), String> {
    remove(old)?;
    copy(new, old).map_err(|error| format!("a copy of {} as {}: {error}", new.display(), old.display()))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
        fs::create_dir_all(new.join("a/b")).unwrap();
        fs::write(new.join("a/b/c"), "new").unwrap();
        for _ in 0..2 {
            replace(&old, &new).unwrap();
            assert_eq!(fs::read_to_string(old.join("a/b/c")).unwrap(), "new");
            assert!(!old.join("rest").exists());
            fs::write(old.join("rest"), "old").unwrap();
        }
        remove(&old).unwrap();
        remove(&old).unwrap();
        assert!(replace(&new, &old).unwrap_err().contains("old"));
    }
}
