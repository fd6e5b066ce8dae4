//! Is a backup whole?

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
};

use anyhow::Context;

use super::{
    Error,
    format::{self, FORMAT, Hashed, Head, Summary},
};
use crate::progress::Progress;

/// Longest of our JSON entries.
const JSON_BYTES_MAX: u64 = 64 * 1024;

/// Reads a backup whole. What it says of itself is true when this gives it.
pub fn verify(mut file: &File, progress: &Progress) -> Result<(Head, Summary), Error> {
    let head = read_head(file)?;
    let (position, summary) = find_end(file)?;
    if position != summary.bytes {
        return Err(Error::damaged("it has more or less bytes than it says"));
    }
    file.rewind().context("failed to read the backup")?;
    let bytes = BufReader::with_capacity(1 << 20, progress.counting(file));
    let mut hashed = Hashed::new(bytes.take(position));
    io::copy(&mut hashed, &mut io::sink()).context("failed to read the backup")?;
    if hashed.so_far() != (summary.bytes, summary.sha256) {
        return Err(Error::damaged("its SHA-256 is another one than it says"));
    }
    Ok((head, summary))
}

fn read_head(mut file: &File) -> Result<Head, Error> {
    let strange = |_| Error::foreign("it does not begin as a backup of Orchestra does");
    file.rewind().context("failed to read the backup")?;
    let mut archive = tar::Archive::new(file);
    let entry = archive.entries().map_err(strange)?.next();
    let Some(entry) = entry.transpose().map_err(strange)? else {
        return Err(Error::foreign("it is empty"));
    };
    if entry.path().map_err(strange)?.as_os_str() != format::HEAD {
        return Err(Error::foreign(
            "it does not begin as a backup of Orchestra does",
        ));
    }
    let mut json = Vec::new();
    let read = entry.take(JSON_BYTES_MAX).read_to_end(&mut json);
    read.map_err(strange)?;
    // A newer format may say other things; its number stands in each.
    #[derive(serde::Deserialize)]
    struct Numbered {
        format: u32,
    }
    let numbered: Numbered = from_json(&json)?;
    if numbered.format > FORMAT {
        return Err(Error::Newer {
            found: numbered.format,
        });
    }
    from_json(&json)
}

/// Where the last entry begins, and what it says.
fn find_end(mut file: &File) -> Result<(u64, Summary), Error> {
    file.rewind().context("failed to read the backup")?;
    let cut = |error: io::Error| Error::damaged(format!("it is cut off or torn: {error}"));
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(cut)? {
        let mut entry = entry.map_err(cut)?;
        if entry.path().map_err(cut)?.as_os_str() != format::END {
            continue;
        }
        let position = entry.raw_header_position();
        let mut json = Vec::new();
        let read = entry.by_ref().take(JSON_BYTES_MAX).read_to_end(&mut json);
        read.map_err(cut)?;
        return Ok((position, from_json(&json)?));
    }
    Err(Error::damaged("it is cut off: its end is missing"))
}

fn from_json<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| Error::damaged(error.to_string()))
}
