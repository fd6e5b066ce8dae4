//! Turns an answer into an HTTP response, with the trouble that was asked for.

use std::{collections::VecDeque, io, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use serde_json::Value;

use crate::{HEADER, api, conversation::Api, engine::Decision, script::TroubleKind};

/// How long a cut waits, so that what was sent before it arrives first.
const BEFORE_BREAK: Duration = Duration::from_millis(30);

/// A response of one document.
pub fn document(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    mark(&mut response, "application/json");
    response
}

/// An HTTP error as the clients of `api` understand it.
pub fn error(api: Api, code: u16, retry_after: Option<u64>, message: &str) -> Response<Body> {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = document(status, &api::error(api, code, message));
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer, streamed or whole.
pub fn answer(
    api: Api,
    decision: &Decision,
    trouble: Option<&TroubleKind>,
    body: &Value,
    stream: bool,
) -> Response<Body> {
    let parts = if stream {
        let frames = api::frames(api, &decision.answer, body);
        frames
            .iter()
            .map(|frame| Bytes::from(frame.bytes()))
            .collect()
    } else {
        vec![Bytes::from(api::whole(api, &decision.answer).to_string())]
    };
    let content_type = if stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let mut response = Response::new(Body::from_stream(play(parts, decision.delay_ms, trouble)));
    mark(&mut response, content_type);
    response
}

/// Says that the answer is scripted.
fn mark(response: &mut Response<Body>, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        HEADER,
        HeaderValue::from_static("this answer follows a script"),
    );
}

enum Piece {
    Send(Bytes),
    Break,
    Silence,
}

fn play(
    parts: Vec<Bytes>,
    delay_ms: u64,
    trouble: Option<&TroubleKind>,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let delay_ms = match trouble {
        Some(TroubleKind::Slow { delay_ms }) => *delay_ms,
        Some(_) | None => delay_ms,
    };
    let delay = Duration::from_millis(delay_ms);
    futures::stream::unfold(pieces(parts, trouble), move |mut left| async move {
        match left.pop_front()? {
            Piece::Send(bytes) => {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                Some((Ok(bytes), left))
            }
            Piece::Break => {
                tokio::time::sleep(BEFORE_BREAK).await;
                Some((Err(io::Error::other("cut by the script")), VecDeque::new()))
            }
            Piece::Silence => std::future::pending().await,
        }
    })
}

/// All parts, or the first half and then the trouble.
fn pieces(parts: Vec<Bytes>, trouble: Option<&TroubleKind>) -> VecDeque<Piece> {
    let end = match trouble {
        Some(TroubleKind::Cut) => Piece::Break,
        Some(TroubleKind::Stall) => Piece::Silence,
        Some(TroubleKind::Status { .. } | TroubleKind::Hang | TroubleKind::Slow { .. }) | None => {
            return parts.into_iter().map(Piece::Send).collect();
        }
    };
    let mut pieces: VecDeque<Piece> = match parts.as_slice() {
        [whole] => VecDeque::from([Piece::Send(whole.slice(..whole.len() / 2))]),
        many => many[..many.len() / 2]
            .iter()
            .cloned()
            .map(Piece::Send)
            .collect(),
    };
    pieces.push_back(end);
    pieces
}
