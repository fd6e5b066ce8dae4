//! Commits: all changes of all steps into the journal, then one sync for all of them.

use orchestra_core::Change;

use super::{Result, Store, encode, journal::Kind, table::Place};

impl Store {
    /// Makes steps durable, together or not at all. When this returns an error, nothing may be
    /// said to anybody: the owner must stop. `keep_pace` is to be called when it has been said.
    pub fn commit(&mut self, steps: &[Vec<Change>]) -> Result<()> {
        let mut written = 0;
        for change in steps.iter().flatten() {
            if self.frame.is_full() {
                written += self.write_frame(Kind::More)?;
            }
            encode::change(change, &self.blobs, &mut self.frame)?;
        }
        if self.frame.is_empty() {
            return Ok(());
        }
        written += self.write_frame(Kind::Last)?;
        self.journal.sync()?;
        self.journal.seal()?;
        self.committed += written;
        Ok(())
    }

    /// Removes single rows: after a copy whose rows were not all of one moment, and for repairs.
    pub fn discard(&mut self, keys: &[Vec<u8>]) -> Result<()> {
        let mut written = 0;
        for key in keys {
            if self.frame.is_full() {
                written += self.write_frame(Kind::More)?;
            }
            self.frame.remove(key);
        }
        if self.frame.is_empty() {
            return Ok(());
        }
        written += self.write_frame(Kind::Last)?;
        self.journal.sync()?;
        self.journal.seal()?;
        self.committed += written;
        Ok(())
    }

    /// Gives the number of rows.
    fn write_frame(&mut self, kind: Kind) -> Result<usize> {
        let make_room = || {
            if let Some(disk) = &self.disk {
                disk.release_ballast();
            }
        };
        let appended = self.journal.append(&mut self.frame, kind, make_room);
        let (segment, at) = appended?;
        for operation in self.frame.operations() {
            let place = operation.value.as_ref().map(|value| Place {
                segment,
                offset: at + value.start,
                length: value.end - value.start,
            });
            self.recent.insert(operation.key.clone(), place);
        }
        let rows = self.frame.operations().len();
        self.frame.clear();
        Ok(rows)
    }
}
