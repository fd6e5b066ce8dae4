//! Another process has spoken to the head in this worker's place, as a copy of its directory does that comes while
//! this one cannot be heard.
//!
//! Reports are numbered. A head that has more of them than this process ever sent has them from somebody else, and what
//! they say of the attempts here is not what these came to. What was not sent yet gets new numbers, and because the
//! head may not want it any more, the files of all attempts stay here.
//!
//! What an earlier process has written down counts as sent by it.

use orchestra_proto::{convert, v1};
use orchestra_types::Timestamp;

use super::{Error, Session};
use crate::{fleet::Order, spool::NewReport};

/// Takes the head's word that it has all reports up to a number.
pub(super) async fn acknowledged(session: &mut Session, up_to: u64) -> Result<(), Error> {
    if up_to <= session.sent {
        session.spool.acknowledged(up_to);
        return Ok(());
    }
    tracing::error!(
        acknowledged = up_to,
        sent = session.sent,
        "the head has reports of this worker that it never sent: another process has spoken in its place, from a copy of \
         its directory, or this one is an older copy; what the attempts here have done is kept here as well"
    );
    // IMPORTANT: first, because an attempt goes when its last report counts as acknowledged.
    for held in session.fleet.held().await? {
        session.fleet.order(Order::Keep(held.attempt)).await?;
    }
    // An answer comes behind all orders before it.
    session.fleet.held().await?;
    let unsent = session.spool.waiting().after(session.sent, usize::MAX);
    let taken = unsent.into_iter().filter(|report| report.seq <= up_to);
    let again: Vec<NewReport> = taken.filter_map(anew).collect();
    session.spool.acknowledged(up_to);
    session.sent = up_to;
    if !again.is_empty() {
        let recorded = session.spool.record_all(again).await;
        recorded.map_err(|_| Error::Stopping)?;
    }
    Ok(())
}

/// A report without its number.
fn anew(report: v1::Report) -> Option<NewReport> {
    Some(NewReport {
        attempt: convert::attempt_id("report", report.attempt).ok()?,
        time: Timestamp(report.time_ms),
        body: report.body?,
    })
}
