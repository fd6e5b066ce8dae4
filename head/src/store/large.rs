//! Values: a format byte, a place byte, a checksum, a message. What sled would not sync lies in
//! the blob directory, and the database holds its digest.
//!
//! The CRC-32C is over the key, the place byte and the message: a value that stands under another
//! key is damage too.

use orchestra_proto::{convert, store::v1};
use orchestra_types::Digest;
use prost::Message;

use crate::blobs::Blobs;

use super::{
    Error, Result,
    journal::{Frame, Position},
    key,
};

/// The format of every row that this version writes.
pub(super) const FORMAT: u8 = 2;
/// Format and place.
const HEAD_BYTES: usize = 2;
/// Format, place and checksum.
const PREFIX_BYTES: usize = HEAD_BYTES + 4;
/// The message stands in the row.
const INLINE: u8 = 0;
/// The message stands in the blob directory.
const LARGE: u8 = 1;
/// Longest value in the database; sled writes values above 128 KiB to files that it never syncs.
const INLINE_BYTES_MAX: usize = 60 * 1024;
/// Largest row at all. A worker with 256 runners and long texts has less than 4 MiB.
const LARGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Adds a row to a frame. A large message is durable in the blob directory when this returns.
pub(super) fn put(
    frame: &mut Frame,
    key: &[u8],
    message: &impl Message,
    blobs: &Blobs,
) -> Result<()> {
    let length = message.encoded_len();
    if PREFIX_BYTES + length <= INLINE_BYTES_MAX {
        return frame.put(key, |out| {
            write(key, INLINE, message, out);
            Ok(())
        });
    }
    let digest = blobs.put(&message.encode_to_vec())?.0.to_vec();
    frame.put(key, |out| {
        write(key, LARGE, &v1::LargeRow { digest }, out);
        Ok(())
    })
}

/// The bytes of a row's message, and the blob that they lie in when they are large.
pub(super) fn bytes(key: &[u8], value: &[u8], blobs: &Blobs) -> Result<(Vec<u8>, Option<Digest>)> {
    verify(key, value)?;
    let body = &value[PREFIX_BYTES..];
    match value[1] {
        INLINE => Ok((body.to_vec(), None)),
        LARGE => {
            let large: v1::LargeRow = decode(key, body)?;
            let digest = convert::digest("digest", &large.digest);
            let digest = digest.map_err(|refused| damaged(key, refused.to_string()))?;
            Ok((blobs.read(&digest, LARGE_BYTES_MAX)?, Some(digest)))
        }
        place => Err(damaged(key, format!("unknown place {place}"))),
    }
}

/// Looks whether a value is what was written under this key.
pub(super) fn verify(key: &[u8], value: &[u8]) -> Result<()> {
    match value {
        [FORMAT, place, a, b, c, d, body @ ..] => {
            let right = u32::from_le_bytes([*a, *b, *c, *d]) == checksum(key, *place, body);
            right
                .then_some(())
                .ok_or_else(|| damaged(key, "its checksum is wrong".to_owned()))
        }
        [FORMAT, ..] | [] => Err(damaged(key, "it is too short".to_owned())),
        [found, ..] => Err(Error::Format {
            row: key::show(key),
            found: *found,
            known: FORMAT,
        }),
    }
}

/// Reads a value.
pub(super) fn message<M: Message + Default>(key: &[u8], value: &[u8], blobs: &Blobs) -> Result<M> {
    if let [FORMAT, INLINE, ..] = value {
        verify(key, value)?;
        return decode(key, &value[PREFIX_BYTES..]);
    }
    decode(key, &bytes(key, value, blobs)?.0)
}

/// A value of format 1, as this version writes it. One that is in this format already stays.
pub(super) fn migrated(key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>> {
    match value {
        [1, place, body @ ..] => {
            let mut new = vec![FORMAT, *place];
            new.extend(checksum(key, *place, body).to_le_bytes());
            new.extend(body);
            Ok(Some(new))
        }
        other => verify(key, other).map(|()| None),
    }
}

/// The row that says up to where the database has what the journal had.
pub(super) fn position(position: Position) -> Vec<u8> {
    let mut body = position.number.to_le_bytes().to_vec();
    body.extend(position.segment.to_le_bytes());
    let mut value = vec![FORMAT, INLINE];
    value.extend(checksum(key::JOURNAL, INLINE, &body).to_le_bytes());
    value.extend(body);
    value
}

/// Reads that row.
pub(super) fn position_of(value: &[u8]) -> Result<Position> {
    verify(key::JOURNAL, value)?;
    let number = |at: usize| {
        let bytes = value.get(PREFIX_BYTES + at..PREFIX_BYTES + at + 8);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(u64::from_le_bytes)
            .ok_or_else(|| damaged(key::JOURNAL, "it is too short".to_owned()))
    };
    Ok(Position {
        number: number(0)?,
        segment: number(8)?,
    })
}

pub(super) fn damaged(key: &[u8], why: String) -> Error {
    Error::Row {
        row: key::show(key),
        why,
    }
}

fn write(key: &[u8], place: u8, message: &impl Message, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend([FORMAT, place, 0, 0, 0, 0]);
    message.encode_raw(out);
    let crc = checksum(key, place, &out[begin + PREFIX_BYTES..]);
    out[begin + HEAD_BYTES..begin + PREFIX_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(key: &[u8], place: u8, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(key);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &[place]), body)
}

fn decode<M: Message + Default>(key: &[u8], bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|error| damaged(key, error.to_string()))
}
