//! The two messages that carry many events, with each event left as the bytes it came in.
//!
//! On the wire they are what `fleet.proto` and `admin.proto` say. The head stores and forwards
//! events without making them anew; whoever wants to look into one decodes it.

use bytes::Bytes;
use prost::Message;

use crate::{Refused, v1};

/// Events of one attempt, from its worker.
#[derive(Clone, PartialEq, Message)]
pub struct EventUpload {
    /// Whose events.
    #[prost(message, optional, tag = "1")]
    pub attempt: Option<v1::AttemptId>,
    /// Encoded events, in order.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub events: Vec<Bytes>,
}

/// Events of one attempt, for who follows it.
#[derive(Clone, PartialEq, Message)]
pub struct EventBatch {
    /// Whose events.
    #[prost(message, optional, tag = "1")]
    pub attempt: Option<v1::AttemptId>,
    /// Encoded events, in order.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub events: Vec<Bytes>,
    /// What is missing before the next events; a batch with a gap has no events.
    #[prost(message, optional, tag = "3")]
    pub gap: Option<v1::EventGap>,
}

impl EventBatch {
    /// The number of the field `events`.
    pub const EVENTS_TAG: u32 = 2;
}

/// Events as they go into a batch.
pub fn encode<'a>(events: impl IntoIterator<Item = &'a v1::Event>) -> Vec<Bytes> {
    let events = events.into_iter();
    events.map(|event| event.encode_to_vec().into()).collect()
}

/// Events of a batch.
pub fn decode(events: &[Bytes]) -> Result<Vec<v1::Event>, Refused> {
    let decode = |event: &Bytes| {
        let event = v1::Event::decode(event.clone());
        event.map_err(|e| Refused::new("events", format!("one cannot be read: {e}")))
    };
    events.iter().map(decode).collect()
}
