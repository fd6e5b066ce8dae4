//! Reads the file, and says where it is wrong.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use crate::{Config, message};

/// Largest configuration file: 1 MiB.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("`{path}` is larger than 1 MiB")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a valid configuration.
    #[error("{path}:{line}:{column}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong, with the nearest valid name.
        message: String,
    },
}

/// A file that somebody has named: one that is not there is a slip, and nothing goes on without it.
///
/// # Errors
/// When there is no such file; the text says so.
pub fn named_file(path: PathBuf) -> Result<PathBuf, String> {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Err("it is a directory".to_owned()),
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("there is no such file".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Reads the configuration at `path`.
pub fn load(path: &Path) -> Result<Config, Error> {
    read_text(&read(path)?, path)
}

/// What stands in the bytes of the file at `path`.
pub(crate) fn read_text<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, Error> {
    let text = std::str::from_utf8(bytes).map_err(|e| not_utf8(path, bytes, e.valid_up_to()))?;
    parse_as(text, path)
}

/// Reads the configuration in `text`; `path` is for messages. An empty text is the defaults.
pub fn parse(text: &str, path: &Path) -> Result<Config, Error> {
    parse_as(text, path)
}

fn parse_as<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, Error> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location();
        Error::Invalid {
            path: path.to_owned(),
            line: at.map_or(1, |l| l.line()),
            column: at.map_or(1, |l| l.column()),
            message: message::of(&error),
        }
    })
}

/// Reads no more than a configuration can have: the path may name a device or a huge file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let limit = FILE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

fn not_utf8(path: &Path, bytes: &[u8], valid: usize) -> Error {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Error::Invalid {
        path: path.to_owned(),
        line: count(before.matches('\n').count() + 1),
        column: count(last_line.chars().count() + 1),
        message: "this byte is not UTF-8; save the file as UTF-8".to_owned(),
    }
}
