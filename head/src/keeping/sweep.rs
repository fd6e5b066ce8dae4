//! One look at everything: marks what rows refer to, removes the rest.
//!
//! Rows are read a page at a time between the engine's turns. What a new row refers to was stored
//! or asked for a moment ago, so it is too young to go, whether the marking has seen it or not.

use std::time::SystemTime;

use anyhow::Context;
use orchestra_types::Digest;

use super::Keeper;
use crate::{
    blobs::{Blobs, Stored},
    engine::Handle,
    store::{self, Row},
};

/// How much is read in one turn of the engine.
const PAGE_BYTES: usize = 512 * 1024;

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only look.
    Look,
    /// Remove what is found.
    Remove,
}

/// What was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Stored files that nothing refers to.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Tasks that are gone and of which events were left.
    pub events: u64,
    /// Outputs of tasks that are gone, in the shared context.
    pub outputs: u64,
    /// Their bytes.
    pub output_bytes: u64,
}

/// What rows refer to. The first eight bytes of a name are enough: two names that share them
/// only keep a file too long.
#[derive(Debug, Default)]
struct Marks {
    names: Vec<u64>,
    /// What all rows take.
    bytes: u64,
}

impl Keeper {
    /// Looks at everything.
    pub async fn sweep(&self, mode: Mode) -> anyhow::Result<Swept> {
        let mut swept = self.look_at_all(mode).await?;
        let outputs = self.sweep_outputs(mode).await?;
        (swept.outputs, swept.output_bytes) = (outputs.outputs, outputs.bytes);
        Ok(swept)
    }

    /// At all but outputs, of which copies go when the gate is not held.
    async fn look_at_all(&self, mode: Mode) -> anyhow::Result<Swept> {
        let _gate = self.gate.lock().await;
        let before = SystemTime::now() - self.uploads_for;
        let marks = marks(&self.engine).await?;
        self.metrics.levels().set_live_bytes(marks.bytes);
        let blobs = self.blobs.clone();
        let looked = tokio::task::spawn_blocking(move || unmarked(&blobs, &marks, before, mode));
        let mut swept = looked
            .await
            .context("the look at stored bytes panicked")??;
        swept.events = self.sweep_events(mode).await?;
        Ok(swept)
    }

    async fn sweep_events(&self, mode: Mode) -> anyhow::Result<u64> {
        let events = self.events.clone();
        let stored = tokio::task::spawn_blocking(move || events.stored()).await;
        let stored = stored.context("the look at events panicked")??;
        let gone = self.engine.read(move |view| {
            let mut stored = stored;
            stored.retain(|last| view.core.task(last.task).is_none());
            Ok(stored)
        });
        let gone = gone.await?;
        for last in gone.iter().filter(|_| mode == Mode::Remove) {
            self.events.forget(*last).await?;
        }
        Ok(gone.len() as u64)
    }
}

/// What all rows refer to.
async fn marks(engine: &Handle) -> anyhow::Result<Marks> {
    let mut marks = Marks::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let read = engine.read(move |view| view.store.page(after.as_deref(), PAGE_BYTES));
        let page = read.await?;
        for row in &page.rows {
            // A row that cannot be read may refer to anything: nothing goes then.
            marks
                .add(row)
                .with_context(|| format!("{} keeps everything", row.name()))?;
        }
        after = page.next;
        if after.is_none() {
            marks.names.sort_unstable();
            return Ok(marks);
        }
    }
}

impl Marks {
    fn add(&mut self, row: &Row) -> store::Result<()> {
        self.bytes += (row.key.len() + row.message.as_ref().map_or(0, Vec::len)) as u64;
        self.names.extend(row.large.as_ref().map(short));
        let references = store::references(&row.change()?);
        self.names
            .extend(references.iter().map(|r| short(&r.digest)));
        Ok(())
    }

    fn has(&self, digest: &Digest) -> bool {
        self.names.binary_search(&short(digest)).is_ok()
    }
}

fn short(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn unmarked(blobs: &Blobs, marks: &Marks, before: SystemTime, mode: Mode) -> anyhow::Result<Swept> {
    let mut swept = Swept::default();
    for stored in blobs.stored()? {
        for Stored { digest, size, used } in stored? {
            let unused = used < before && !marks.has(&digest);
            if unused && (mode == Mode::Look || blobs.remove_unused(&digest, before)?) {
                swept.files += 1;
                swept.bytes += size;
            }
        }
    }
    Ok(swept)
}
