//! Small pieces that both directions share.

use orchestra_core::EndStatus;
use orchestra_proto::v1;

pub(super) fn end_status(status: EndStatus) -> i32 {
    v1::TaskStatus::from(status.status()).into()
}

pub(super) fn end_status_of(wire: i32) -> Option<EndStatus> {
    match v1::TaskStatus::try_from(wire).ok()? {
        v1::TaskStatus::Succeeded => Some(EndStatus::Succeeded),
        v1::TaskStatus::Failed => Some(EndStatus::Failed),
        v1::TaskStatus::Cancelled => Some(EndStatus::Cancelled),
        v1::TaskStatus::NeedsReview => Some(EndStatus::NeedsReview),
        v1::TaskStatus::Unspecified
        | v1::TaskStatus::Blocked
        | v1::TaskStatus::Queued
        | v1::TaskStatus::Assigned
        | v1::TaskStatus::Running => None,
    }
}
