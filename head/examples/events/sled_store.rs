//! The same load into sled: a batch is a value under its attempt and first number, and one flush
//! and one `sync_data` make durable what waits, as the head's store does it. Nobody follows: this
//! is what the writing alone reaches.

use std::{
    fs::File,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Instant,
};

use orchestra_proto::{batch::encode, v1};
use prost::Message;

use super::{
    machine,
    work::{Measured, Shape, batch},
};

/// Operations of one sled batch, as in the head's store.
const OPERATIONS_MAX: usize = 256;
/// Writers at once; each has as many attempts as it takes.
const WRITERS: u64 = 64;

struct Append {
    key: Vec<u8>,
    value: Vec<u8>,
    done: SyncSender<()>,
}

pub fn measure(root: &Path, shape: Shape) -> anyhow::Result<Measured> {
    std::fs::create_dir_all(root)?;
    let config = sled::Config::new().path(root).cache_capacity(256 << 20);
    let db = config.open()?;
    let file = File::open(root.join("db"))?;
    let (began, cpu) = (Instant::now(), machine::cpu_of("self"));
    std::thread::scope(|scope| {
        let (appends, inbox) = sync_channel(256);
        let writers = WRITERS.min(shape.attempts);
        for writer in 0..writers {
            let appends = appends.clone();
            scope.spawn(move || write(&appends, shape, writer, writers));
        }
        drop(appends);
        own(&db, &file, &inbox)
    })?;
    Ok(Measured {
        took: began.elapsed(),
        cpu: machine::cpu_of("self") - cpu,
        followed: 0,
    })
}

fn write(appends: &SyncSender<Append>, shape: Shape, writer: u64, writers: u64) {
    for index in 0..shape.batches {
        for number in (writer..shape.attempts).step_by(writers as usize) {
            let first = index * shape.batch + 1;
            let upload = v1::EventUpload {
                attempt: None,
                events: encode(&batch(first, shape.batch)),
            };
            let attempt = shape.attempt(number);
            let mut key = attempt.task.0.to_be_bytes().to_vec();
            key.extend(attempt.number.to_be_bytes());
            key.extend(first.to_be_bytes());
            let (done, durable) = sync_channel(1);
            let value = upload.encode_to_vec();
            // The owner is gone only after an error, which it returns.
            let _ = appends.send(Append { key, value, done });
            let _ = durable.recv();
        }
    }
}

fn own(db: &sled::Db, file: &File, inbox: &Receiver<Append>) -> anyhow::Result<()> {
    while let Ok(first) = inbox.recv() {
        let mut turn = vec![first];
        turn.extend(inbox.try_iter().take(OPERATIONS_MAX - 1));
        let mut batch = sled::Batch::default();
        let mut waiting = Vec::new();
        for Append { key, value, done } in turn {
            batch.insert(key, value);
            waiting.push(done);
        }
        db.apply_batch(batch)?;
        db.flush()?;
        file.sync_data()?;
        for done in waiting {
            let _ = done.send(());
        }
    }
    Ok(())
}
