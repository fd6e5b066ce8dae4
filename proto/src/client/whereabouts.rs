//! Where a head listens. One that starts again may listen elsewhere, when somebody took its port
//! meanwhile; it writes that into a file, which is read anew at each look.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// An address, or a file that says it.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    file: Option<PathBuf>,
    last: Arc<Mutex<String>>,
}

impl Whereabouts {
    /// What `file` says now, and later. It holds `HOST:PORT`; of white space around it nothing is kept.
    pub fn written_in(file: PathBuf) -> io::Result<Self> {
        let last = fs::read_to_string(&file)?.trim().to_owned();
        Ok(Self {
            file: Some(file),
            last: Arc::new(Mutex::new(last)),
        })
    }

    /// As `HOST:PORT`. A file that is gone, or is just being written, changes nothing.
    #[must_use]
    pub fn now(&self) -> String {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // A line of a local file: less than what waking another thread for it would take.
        let read = self.file.as_ref().map(fs::read_to_string);
        if let Some(Ok(text)) = read
            && !text.trim().is_empty()
        {
            text.trim().clone_into(&mut last);
        }
        last.clone()
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for Whereabouts {
    fn from(endpoint: &T) -> Self {
        Self {
            file: None,
            last: Arc::new(Mutex::new(endpoint.as_ref().to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_anew_and_what_is_gone_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endpoint");
        assert!(Whereabouts::written_in(file.clone()).is_err());
        fs::write(&file, "h:1\n").unwrap();
        let head = Whereabouts::written_in(file.clone()).unwrap();
        let copy = head.clone();
        assert_eq!(head.now(), "h:1");
        fs::write(&file, "h:2").unwrap();
        assert_eq!(head.now(), "h:2");
        fs::write(&file, "").unwrap();
        assert_eq!(copy.now(), "h:2");
        fs::remove_file(&file).unwrap();
        assert_eq!(head.now(), "h:2");
    }
}
