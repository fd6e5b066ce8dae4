//! The journal's bytes: frames of operations.
//!
//! ```text
//! frame:     crc u32 · length u32 · number u64 · place u32 · kind u32 · operations · padding to 8
//! operation: length of the key u16 · length of the value + 1, or 0 to remove, u32 · key · value
//! ```
//!
//! A commit is one frame or several: `place` counts them, and the last one says so. The CRC-32C
//! starts from the segment's salt, so that what an earlier use of the file left never reads as a
//! frame of this one, and nobody who chooses a task's text can write one into it.

use std::ops::Range;

/// Bytes before the operations.
pub(super) const HEADER_BYTES: usize = 24;
/// Frames begin at multiples of it.
pub(super) const ALIGNMENT: usize = 8;
/// A frame with this many bytes takes no more. It fits into a segment with the largest row behind.
const FULL_BYTES: usize = if cfg!(any(test, feature = "fail-points")) {
    32
} else {
    1024
} * 1024;

/// What a frame is to its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// More frames of the commit follow.
    More,
    /// The commit's last frame.
    Last,
    /// No operations: says that the frame of its number was made durable.
    Seal,
}

/// What stands before a frame's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub number: u64,
    pub place: u32,
    pub kind: Kind,
}

/// Operations on their way into the journal.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Room for the header, then the operations.
    bytes: Vec<u8>,
    operations: Vec<Operation>,
}

/// A key, and where in the frame its new value stands; none removes the row.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// The row.
    pub key: sled::IVec,
    /// Where its value is, from the frame's begin on.
    pub value: Option<Range<u32>>,
}

impl Frame {
    pub fn new() -> Self {
        Self {
            bytes: vec![0; HEADER_BYTES],
            operations: Vec::new(),
        }
    }

    /// Empty again, with its memory, unless that has become large.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.bytes.shrink_to(FULL_BYTES / 8);
        self.operations.clear();
        self.operations.shrink_to(4096);
    }

    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The value of the operation at `index`, which must put a row.
    #[cfg(test)]
    pub fn value(&self, index: usize) -> &[u8] {
        let value = self.operations[index].value.clone().expect("a put");
        &self.bytes[value.start as usize..value.end as usize]
    }

    /// How many bytes it takes in a segment.
    pub(super) fn length(&self) -> u64 {
        self.bytes.len().next_multiple_of(ALIGNMENT) as u64
    }

    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Adds a row; `write` appends its value.
    pub fn put<E>(
        &mut self,
        key: &[u8],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin = self.bytes.len();
        self.bytes.extend(length(key.len()).to_le_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(key);
        let at = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(begin);
            return Err(error);
        }
        let value = offset(at)..offset(self.bytes.len());
        let stored = (value.end - value.start + 1).to_le_bytes();
        self.bytes[begin + 2..begin + 6].copy_from_slice(&stored);
        self.operations.push(Operation {
            key: key.into(),
            value: Some(value),
        });
        Ok(())
    }

    /// Adds the removal of a row.
    pub fn remove(&mut self, key: &[u8]) {
        self.bytes.extend(length(key.len()).to_le_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(key);
        self.operations.push(Operation {
            key: key.into(),
            value: None,
        });
    }

    /// The bytes as they stand in a segment with this salt.
    pub(super) fn seal(&mut self, header: Header, salt: u32) -> &[u8] {
        let end = self.bytes.len();
        put_header(&mut self.bytes, header, salt);
        self.bytes.resize(end.next_multiple_of(ALIGNMENT), 0);
        &self.bytes
    }
}

/// A frame without operations.
pub(super) fn empty(header: Header, salt: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    put_header(&mut bytes, header, salt);
    bytes
}

/// Reads the frame that begins at `at`: its header and where its operations are. None when there
/// is no whole frame.
pub(super) fn read(bytes: &[u8], at: usize, salt: u32) -> Option<(Header, Range<usize>)> {
    let header = bytes.get(at..at.checked_add(HEADER_BYTES)?)?;
    let number = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let kind = kind_of(u32_at(header, 20)?)?;
    let operations = at + HEADER_BYTES..at + HEADER_BYTES + u32_at(header, 4)? as usize;
    let body = bytes.get(at + 4..operations.end)?;
    if crc32c::crc32c_append(salt, body) != u32_at(header, 0)? {
        return None;
    }
    let place = u32_at(header, 16)?;
    let header = Header {
        number,
        place,
        kind,
    };
    Some((header, operations))
}

/// The operations in a frame's bytes; their places count from the begin of `bytes`. None when they
/// do not read, which the CRC has made impossible.
pub(super) fn operations(bytes: &[u8], range: Range<usize>) -> Option<Vec<Operation>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let key_length = u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?) as usize;
        let value_length = u32_at(bytes, at + 2)?;
        let key = at + 6..at + 6 + key_length;
        at = key.end;
        let value = value_length.checked_sub(1).map(|length| {
            let value = at as u32..at as u32 + length;
            at = value.end as usize;
            value
        });
        if at > range.end {
            return None;
        }
        let key = bytes.get(key)?.into();
        found.push(Operation { key, value });
    }
    Some(found)
}

fn put_header(bytes: &mut [u8], header: Header, salt: u32) {
    let length = offset(bytes.len() - HEADER_BYTES);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..16].copy_from_slice(&header.number.to_le_bytes());
    bytes[16..20].copy_from_slice(&header.place.to_le_bytes());
    bytes[20..24].copy_from_slice(&kind_number(header.kind).to_le_bytes());
    let crc = crc32c::crc32c_append(salt, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
}

fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::More => 1,
        Kind::Last => 2,
        Kind::Seal => 3,
    }
}

fn kind_of(number: u32) -> Option<Kind> {
    match number {
        1 => Some(Kind::More),
        2 => Some(Kind::Last),
        3 => Some(Kind::Seal),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn length(key: usize) -> u16 {
    u16::try_from(key).expect("convert has checked the lengths of names and keys")
}

fn offset(place: usize) -> u32 {
    u32::try_from(place).expect("a frame is closed at a mebibyte, and values are below 64 KiB")
}
