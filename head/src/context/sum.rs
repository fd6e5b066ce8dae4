//! The first line of each of the head's own files: the version, and the SHA-256 of what follows.
//!
//! ```text
//! orchestra-context 1 sha256 2c26b46b…
//! <the text, as people read it>
//! ```
//! So a file and its checksum change together, and a person can look at both:
//! `tail -n +2 FILE | sha256sum`. Pure: no file.

use orchestra_types::Digest;
use sha2::{Digest as _, Sha256};

const BEGIN: &str = "orchestra-context 1 sha256 ";
/// Bytes of the first line, with its end.
pub(super) const LINE_BYTES: usize = BEGIN.len() + 64 + 1;

/// The bytes of a file with this text.
pub(super) fn with_sum(text: &[u8]) -> Vec<u8> {
    let mut bytes = line(&Digest(Sha256::digest(text).into())).into_bytes();
    bytes.extend(text);
    bytes
}

/// The text of a file; none when its first line says otherwise.
pub(super) fn text_of(bytes: &[u8]) -> Option<&[u8]> {
    let (first, text) = bytes.split_at_checked(LINE_BYTES)?;
    let right = line(&Digest(Sha256::digest(text).into()));
    (first == right.as_bytes()).then_some(text)
}

/// What the first line of a file says of its text, whatever the text is.
pub(super) fn sum_of(bytes: &[u8]) -> Option<Digest> {
    let first = std::str::from_utf8(bytes.get(..LINE_BYTES)?).ok()?;
    let hex = first.strip_prefix(BEGIN)?.strip_suffix('\n')?;
    hex.parse().ok()
}

/// What its text may have as its sum: what the first line says, and what the rest has.
pub(super) fn sums_of(bytes: &[u8]) -> Vec<Digest> {
    let mut sums: Vec<Digest> = sum_of(bytes).into_iter().collect();
    if let Some(text) = bytes.get(LINE_BYTES..) {
        let has = Digest(Sha256::digest(text).into());
        sums.extend((!sums.contains(&has)).then_some(has));
    }
    sums
}

fn line(digest: &Digest) -> String {
    format!("{BEGIN}{digest}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_and_a_flipped_bit_anywhere_is_seen() {
        let whole = with_sum(b"Owls.\nAnd cats.\n");
        assert_eq!(text_of(&whole), Some(b"Owls.\nAnd cats.\n".as_slice()));
        assert_eq!(text_of(&with_sum(b"")), Some(b"".as_slice()));
        for at in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(text_of(&flipped), None, "bit {at}");
        }
        for length in 0..whole.len() {
            assert_eq!(text_of(&whole[..length]), None, "cut at {length}");
        }
    }
}
