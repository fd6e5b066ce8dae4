//! Another process has spoken to the head in this worker's place, as a copy of its directory does that comes while
//! this one cannot be heard.
//!
//! Reports are numbered. A head that has more of them than this process ever sent has them from somebody else, and what
//! they say of the attempts here is not what these came to. What was not sent yet gets new numbers, and because the
//! head may not want it any more, the files of all attempts stay here.
//!
//! This process knows only what it has sent itself: what an earlier one has written down counts as sent, and of what was
//! on its way when a connection broke nobody knows whether it came.

use super::{Error, Session};
use crate::fleet::Order;

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
         its directory, or this one is an older copy, or has lost its list of reports; what the attempts here have done is kept \
         here as well"
    );
    // IMPORTANT: first, because an attempt goes when its last report counts as acknowledged.
    for held in session.fleet.held().await? {
        session.fleet.order(Order::Keep(held.attempt)).await?;
    }
    // An answer comes behind all orders before it.
    session.fleet.held().await?;
    session.spool.claimed(session.sent, up_to);
    session.sent = up_to;
    Ok(())
}
