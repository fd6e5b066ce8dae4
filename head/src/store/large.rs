//! Values: a format byte, a place byte, a message. What sled would not sync lies in the blob
//! directory, and the database holds its digest.

use orchestra_proto::{convert, store::v1};
use orchestra_types::Digest;
use prost::Message;

use crate::blobs::Blobs;

use super::{Error, Result, key};

/// The format of every row that this version writes.
pub(super) const FORMAT: u8 = 1;
/// The message stands in the row.
const INLINE: u8 = 0;
/// The message stands in the blob directory.
const LARGE: u8 = 1;
/// Longest value in the database; sled writes values above 128 KiB to files that it never syncs.
const INLINE_BYTES_MAX: usize = 60 * 1024;
/// Largest row at all. A worker with 256 runners and long texts has less than 4 MiB.
const LARGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The bytes of a value. A large message is durable in the blob directory when this returns.
pub(super) fn value(message: &impl Message, blobs: &Blobs) -> Result<Vec<u8>> {
    let mut value = vec![FORMAT, INLINE];
    value.reserve(message.encoded_len());
    message.encode_raw(&mut value);
    if value.len() <= INLINE_BYTES_MAX {
        return Ok(value);
    }
    let digest = blobs.put(&value[2..])?.0.to_vec();
    let mut value = vec![FORMAT, LARGE];
    v1::LargeRow { digest }.encode_raw(&mut value);
    Ok(value)
}

/// The bytes of a row's message, and the blob that they lie in when they are large.
pub(super) fn bytes(key: &[u8], value: &[u8], blobs: &Blobs) -> Result<(Vec<u8>, Option<Digest>)> {
    match *value {
        [FORMAT, INLINE, ref rest @ ..] => Ok((rest.to_vec(), None)),
        [FORMAT, LARGE, ref rest @ ..] => {
            let large: v1::LargeRow = decode(key, rest)?;
            let digest = convert::digest("digest", &large.digest);
            let digest = digest.map_err(|refused| damaged(key, refused.to_string()))?;
            Ok((blobs.read(&digest, LARGE_BYTES_MAX)?, Some(digest)))
        }
        [FORMAT, place, ..] => Err(damaged(key, format!("unknown place {place}"))),
        [found, ..] => Err(Error::Format {
            row: key::show(key),
            found,
            known: FORMAT,
        }),
        [] => Err(damaged(key, "it is empty".to_owned())),
    }
}

/// Reads a value.
pub(super) fn message<M: Message + Default>(key: &[u8], value: &[u8], blobs: &Blobs) -> Result<M> {
    if let [FORMAT, INLINE, rest @ ..] = value {
        return decode(key, rest);
    }
    decode(key, &bytes(key, value, blobs)?.0)
}

pub(super) fn damaged(key: &[u8], why: String) -> Error {
    Error::Row {
        row: key::show(key),
        why,
    }
}

fn decode<M: Message + Default>(key: &[u8], bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|error| damaged(key, error.to_string()))
}
