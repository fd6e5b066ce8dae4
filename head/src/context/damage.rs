//! What is done about a file of ours that is not what was written: named, never served.

use std::io;

use super::{
    mirror::{self, Mirror},
    own,
    store::{FILE_BYTES_MAX, Files},
};

impl Files {
    /// The text of a file. A damaged one is set aside: what is told anew takes its place.
    pub(super) fn text_or_aside(&self, name: &str) -> io::Result<Option<String>> {
        match self.text(name) {
            Err(error) if own::is_damage(&error) => {
                self.tell(name, &error);
                self.folder.set_aside(name)?;
                Ok(None)
            }
            text => text,
        }
    }

    /// The text of a file, passing over a damaged one.
    pub(super) fn text_if_whole(&self, name: &str) -> io::Result<Option<String>> {
        match self.text(name) {
            Err(error) if own::is_damage(&error) => {
                self.tell(name, &error);
                Ok(None)
            }
            text => text,
        }
    }

    /// The text of a file; a damaged one comes back from the mirror, where that has the same text.
    pub(super) fn text_or_mended(
        &self,
        name: &str,
        mirror: &Mirror<'_>,
    ) -> io::Result<Option<String>> {
        match self.text(name) {
            Err(error) if own::is_damage(&error) => {
                self.tell(name, &error);
                self.mend(name, mirror)
            }
            text => text,
        }
    }

    fn mend(&self, name: &str, mirror: &Mirror<'_>) -> io::Result<Option<String>> {
        let Some(sum) = self.folder.sum(name, FILE_BYTES_MAX) else {
            return Ok(None);
        };
        // A mirror that cannot be read is none.
        let shown = mirror.text(name).ok().flatten();
        let Some(text) = shown.filter(|text| mirror::hash(text) == sum) else {
            return Ok(None);
        };
        self.folder.set_aside(name)?;
        self.write(name, &text)?;
        tracing::warn!(project = %self.project, name, "a damaged context file came back from the mirror");
        Ok(Some(text))
    }

    pub(super) fn tell(&self, name: &str, error: &io::Error) {
        tracing::error!(project = %self.project, name, %error, "a context file is damaged on disk");
    }
}
