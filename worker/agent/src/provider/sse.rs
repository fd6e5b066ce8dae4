//! Server-sent events of an answer.

use reqwest::Response;
use serde_json::Value;

use super::{http::chain, problem::Problem};
use crate::failure::Code;

/// Longest line: 32 MiB.
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The events of an answer, in order.
pub struct Events {
    response: Response,
    lines: Lines,
}

/// The next of an answer's events.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// An event's data.
    Data(Value),
    /// The word that ends an OpenAI stream.
    Done,
}

impl Events {
    /// The events of a response.
    pub fn new(response: Response) -> Self {
        Self {
            response,
            lines: Lines::default(),
        }
    }

    /// The next event. The end of the stream is a problem: a format says by an event that an
    /// answer is complete, so a stream that just ends was cut.
    pub async fn next(&mut self) -> Result<Next, Problem> {
        loop {
            while let Some(line) = self.lines.take() {
                if let Some(next) = event(&line)? {
                    return Ok(next);
                }
            }
            let chunk = self.response.chunk().await.map_err(|error| {
                Problem::passing(format!("the model's answer broke off: {}", chain(&error)))
            })?;
            match chunk {
                Some(bytes) => self.lines.push(&bytes)?,
                None => return Err(Problem::passing("the model's answer ended too early")),
            }
        }
    }
}

fn event(line: &[u8]) -> Result<Option<Next>, Problem> {
    let Some(data) = line.strip_prefix(b"data:") else {
        return Ok(None);
    };
    let data = data.trim_ascii();
    if data == b"[DONE]" {
        return Ok(Some(Next::Done));
    }
    match serde_json::from_slice(data) {
        Ok(value) => Ok(Some(Next::Data(value))),
        Err(error) => {
            let message = format!("the model service sent an event that is not JSON: {error}");
            Err(Problem::lasting(Code::Protocol, message))
        }
    }
}

/// Cuts bytes into lines.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    searched: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if self.bytes.len() + bytes.len() > LINE_BYTES_MAX {
            let message = format!("the model service sent a line over {LINE_BYTES_MAX} bytes");
            return Err(Problem::lasting(Code::Protocol, message));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let found = self.bytes[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        let Some(offset) = found else {
            self.searched = self.bytes.len();
            return None;
        };
        let rest = self.bytes.split_off(self.searched + offset + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.bytes, rest))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let stream = b"event: x\r\ndata: {\"a\":1}\r\n\r\n: ping\ndata:[DONE]\n\n";
        for size in 1..stream.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for bytes in stream.chunks(size) {
                lines.push(bytes).expect("short");
                while let Some(line) = lines.take() {
                    found.extend(event(&line).expect("good"));
                }
            }
            assert_eq!(
                found,
                [Next::Data(json!({"a": 1})), Next::Done],
                "chunks of {size}"
            );
        }
    }
}
