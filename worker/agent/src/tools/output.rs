//! Keeps the beginning and the end of a long output, in bounded memory.

use std::collections::VecDeque;

/// Bytes kept of the beginning, and as many of the end.
pub const HALF_BYTES: usize = 16 * 1024;

/// A long output, cut in the middle.
#[derive(Debug, Default)]
pub struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
}

impl Output {
    /// Appends.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = HALF_BYTES - self.head.len();
        let (first, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(HALF_BYTES);
        self.tail.drain(..over);
        self.dropped += over as u64;
    }

    /// The text, which says how much was cut.
    pub fn text(self) -> String {
        let head = String::from_utf8_lossy(&self.head);
        let tail: Vec<u8> = self.tail.into();
        let tail = String::from_utf8_lossy(&tail);
        match self.dropped {
            0 => format!("{head}{tail}"),
            dropped => format!("{head}\n…[{dropped} bytes cut]…\n{tail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_keeps_its_ends_and_says_what_it_lost() {
        let mut output = Output::default();
        output.push(b"start");
        for _ in 0..100 {
            output.push(&[b'x'; 1000]);
        }
        output.push(b"end");
        let text = output.text();
        assert!(text.starts_with("start") && text.ends_with("end"));
        let dropped = 100_008 - 2 * HALF_BYTES;
        assert!(
            text.contains(&format!("[{dropped} bytes cut]")),
            "{}",
            text.len()
        );
    }
}
