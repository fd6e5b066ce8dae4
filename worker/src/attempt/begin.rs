//! How an attempt begins: its order is written down, or found with all that an earlier worker process has left.

use orchestra_proto::v1;
use orchestra_types::AttemptId;
use tokio::time::sleep;

use super::{
    files::Files,
    order::Order,
    reboot,
    record::{self, Found, Phase},
    run::{Error, make_dir},
};
use crate::{
    blocking::blocking,
    clock,
    events::{self, Journal},
    process,
    room::{self, Full},
};

/// Writes a new order down.
pub(super) fn accept(
    files: &Files,
    id: AttemptId,
    boot: &str,
    start: v1::Start,
) -> Result<Order, Error> {
    let order = Order::try_from(start.clone())?;
    make_dir(files.dir())?;
    record::save_message(files.order(), &start)?;
    record::save(files, id, boot, &Phase::Accepted)?;
    Ok(order)
}

/// What is on disk of an attempt; none where its order was never accepted.
pub(super) async fn find(files: &Files, boot: &str) -> Result<Option<(Order, Phase)>, Error> {
    let (files, boot) = (files.clone(), boot.to_owned());
    blocking(move || {
        let Some(Found {
            phase,
            boot: of,
            has_area: _,
        }) = record::load(&files)?
        else {
            return Ok(None);
        };
        let order = record::load_order(&files)?.try_into()?;
        let phase = match of {
            Some(of) if of != boot => reboot::phase(&files, phase, clock::now()),
            Some(_) | None => phase,
        };
        Ok(Some((order, phase)))
    })
    .await
}

/// Opens a journal that may be long; one that is not there yet needs room.
pub(super) async fn reopen(
    open: impl Fn() -> Result<Journal, events::Error> + Clone + Send + 'static,
) -> Result<Journal, Error> {
    loop {
        match blocking(open.clone()).await {
            Err(error) if error.is_full() => sleep(room::RETRY_AFTER).await,
            opened => return Ok(opened?),
        }
    }
}

/// Ends what a worker that was killed had started for itself: it would write into what is made
/// again here.
pub(super) async fn end_orphans(files: &Files, phase: &Phase) {
    if matches!(phase, Phase::Started(_)) {
        // The agent runs, and may call git itself.
        return;
    }
    let files = files.clone();
    blocking(move || {
        if !process::end_orphans(&[files.dir(), files.area()]) {
            tracing::error!(dir = %files.dir().display(), "an orphaned git cannot be ended");
        }
    })
    .await;
}
