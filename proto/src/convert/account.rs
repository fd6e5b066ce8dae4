//! What workers say of accounts.

use orchestra_types::{Limited, Timestamp, limits};

use crate::v1;

impl From<v1::Limited> for Limited {
    fn from(wire: v1::Limited) -> Self {
        Self {
            resets_at: wire.resets_at_ms.map(Timestamp),
            message: limits::cut(&wire.message, limits::LIMITED_TEXT_BYTES_MAX),
        }
    }
}

impl From<Limited> for v1::Limited {
    fn from(limited: Limited) -> Self {
        Self {
            resets_at_ms: limited.resets_at.map(|at| at.0),
            message: limited.message,
        }
    }
}
